package tlsfiles

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// A place has the two files of one server.
type place struct {
	t         testing.TB
	dir       string
	cert, key string
	config    *config.Config
}

func newPlace(t testing.TB) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{t: t, dir: dir, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	file := filepath.Join(dir, "keymill.yaml")
	p.write(file, []byte("issuer: https://id.example\ndata: "+dir+"\ntls:\n  cert_file: "+p.cert+"\n  key_file: "+p.key+"\n"))
	var err error
	if p.config, err = config.Load(file, nil, false); err == nil {
		err = p.config.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) write(path string, text []byte) {
	p.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) pair(cert, key []byte) {
	p.t.Helper()
	p.write(p.cert, cert)
	p.write(p.key, key)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestEachUnusablePairIsOneClearAnswer: the error names the setting with its line, and the file; the hint says what
// to do. Neither has a part of the key.
func TestEachUnusablePairIsOneClearAnswer(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	now := time.Now()
	ec, other, rsaKey, edKey := tlstest.NewKey(t, "ECDSA"), tlstest.NewKey(t, "ECDSA"), tlstest.NewKey(t, "RSA"), tlstest.NewKey(t, "Ed25519")
	root := &tlstest.Cert{Name: "Root", CA: true, Key: tlstest.NewKey(t, "ECDSA")}
	rootPEM := root.PEM(t)
	middle := &tlstest.Cert{Name: "Middle", CA: true, Key: tlstest.NewKey(t, "ECDSA"), Parent: root}
	middlePEM := middle.PEM(t)
	leaf := (&tlstest.Cert{Name: "id.example", Key: ec, Parent: middle}).PEM(t)
	key := tlstest.KeyPEM(t, ec)
	expired := (&tlstest.Cert{Name: "id.example", Key: ec, From: now.Add(-48 * time.Hour), Until: now.Add(-time.Hour)}).PEM(t)
	future := (&tlstest.Cert{Name: "id.example", Key: ec, From: now.Add(time.Hour)}).PEM(t)
	der, _ := pem.Decode(key)
	//lint:ignore SA1019 the old form of encryption, which people still have
	old, err := x509.EncryptPEMBlock(rand.Reader, "PRIVATE KEY", der.Bytes, []byte("password"), x509.PEMCipherAES128) //nolint:staticcheck
	if err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, 1<<20)
	rand.Read(garbage)
	text := bytes.Repeat([]byte("Lorem ipsum\n"), 100)
	for name, tt := range map[string]struct {
		cert, key  []byte
		setting    string
		want, hint string
	}{
		"other key":             {leaf, tlstest.KeyPEM(t, other), "key", "the key does not match the certificate in", "write both files"},
		"RSA key":               {leaf, tlstest.KeyPEM(t, rsaKey), "key", "the key is RSA, and the certificate in", "write both files"},
		"Ed25519 key":           {leaf, tlstest.KeyPEM(t, edKey), "key", "is for a key of ECDSA", "write both files"},
		"exchanged, cert":       {key, leaf, "cert", "holds a private key and no certificate", "may be exchanged"},
		"certificate as key":    {leaf, leaf, "key", "holds a certificate and no private key", "privkey.pem"},
		"issuer first":          {join(middlePEM, leaf), key, "key", "the key belongs to certificate 2 of", "change the order"},
		"issuers exchanged":     {join(leaf, rootPEM, middlePEM), key, "cert", "number 1 was issued by number 3", "directly behind"},
		"expired":               {expired, key, "cert", "the certificate expired at ", "renew it"},
		"not yet valid":         {future, key, "cert", "is not valid before ", "clock"},
		"encrypted, PKCS #8":    {leaf, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der.Bytes}), "key", "is encrypted with a passphrase", "openssl pkey"},
		"encrypted, old":        {leaf, pem.EncodeToMemory(old), "key", "is encrypted with a passphrase", "openssl pkey"},
		"empty certificate":     {nil, key, "cert", "cert.pem is empty", ""},
		"empty key":             {leaf, nil, "key", "key.pem is empty", ""},
		"no PEM, certificate":   {text, key, "cert", "holds no certificate in PEM", "fullchain.pem"},
		"no PEM, key":           {leaf, text, "key", "holds no private key in PEM", "privkey.pem"},
		"DER":                   {der.Bytes, key, "cert", "holds no certificate in PEM", "fullchain.pem"},
		"garbage, certificate":  {garbage, key, "cert", "is too long (over 262144 bytes)", ""},
		"garbage, key":          {leaf, garbage, "key", "is too long (over 262144 bytes)", ""},
		"half a certificate":    {leaf[:len(leaf)/2], key, "cert", "holds no certificate in PEM", "fullchain.pem"},
		"half a key":            {leaf, key[:len(key)/2], "key", "holds no private key in PEM", "privkey.pem"},
		"damaged certificate":   {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), key, "cert", "certificate 1 cannot be read", "fullchain.pem"},
		"damaged key":           {leaf, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "key", "the private key cannot be read", "privkey.pem"},
		"half of the 2nd one":   {join(leaf, middlePEM), key[:len(key)-30], "key", "holds no private key in PEM", ""},
		"certificate of no key": {leaf, pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte("x")}), "key", "holds no private key in PEM", ""},
	} {
		p := newPlace(t)
		p.pair(tt.cert, tt.key)
		_, err := Load(p.config, now)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		line := map[string]string{"cert": "keymill.yaml:4: tls.cert_file: " + p.cert, "key": "keymill.yaml:5: tls.key_file: " + p.key}[tt.setting]
		if got := terminal.Plain(err); !strings.Contains(got, line) || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s", name, got)
		}
		if hint := terminal.HintOf(err); !strings.Contains(hint, tt.hint) {
			t.Errorf("%s: the hint is %q", name, hint)
		}
		if secret := string(key[40:60]); strings.Contains(err.Error()+terminal.HintOf(err), secret) {
			t.Errorf("%s: the error has a part of the key", name)
		}
	}
}

// TestWhatIsNoReadableFileIsOneClearAnswer and does not block.
func TestWhatIsNoReadableFileIsOneClearAnswer(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	ec := tlstest.NewKey(t, "ECDSA")
	leaf, key := (&tlstest.Cert{Name: "id.example", Key: ec}).PEM(t), tlstest.KeyPEM(t, ec)
	for name, tt := range map[string]struct {
		change     func(p *place) error
		want, hint string
	}{
		"missing certificate": {func(p *place) error { return os.Remove(p.cert) }, "tls.cert_file: cannot open ", ""},
		"missing key":         {func(p *place) error { return os.Remove(p.key) }, "no such file", ""},
		"directory":           {func(p *place) error { return errors.Join(os.Remove(p.cert), os.Mkdir(p.cert, 0o700)) }, "is a directory, not a file", ""},
		"FIFO": {func(p *place) error { return errors.Join(os.Remove(p.key), syscall.Mkfifo(p.key, 0o600)) },
			"is not a regular file", "name a file"},
		"device": {func(p *place) error { return errors.Join(os.Remove(p.cert), os.Symlink("/dev/zero", p.cert)) },
			"is not a regular file", "name a file"},
		"socket": {func(p *place) error {
			l, err := net.Listen("unix", filepath.Join(p.dir, "s"))
			if err == nil {
				p.t.Cleanup(func() { l.Close() })
			}
			return errors.Join(err, os.Remove(p.key), os.Symlink(filepath.Join(p.dir, "s"), p.key))
		}, "is a socket", ""},
		"loop of links":        {func(p *place) error { return errors.Join(os.Remove(p.key), os.Symlink(p.key, p.key)) }, "too many levels of symbolic links", ""},
		"key for all users":    {func(p *place) error { return os.Chmod(p.key, 0o644) }, "may be read by others (mode 0644)", "chmod 600"},
		"key others may write": {func(p *place) error { return os.Chmod(p.key, 0o602) }, "(mode 0602)", "chmod 600"},
	} {
		p := newPlace(t)
		p.pair(leaf, key)
		if err := tt.change(p); err != nil {
			t.Fatal(err)
		}
		_, err := Load(p.config, time.Now())
		if err == nil || !strings.Contains(terminal.Plain(err), tt.want) || !strings.Contains(terminal.HintOf(err), tt.hint) {
			t.Errorf("%s: %v, hint %q", name, err, terminal.HintOf(err))
		}
	}
	if os.Geteuid() == 0 {
		p := newPlace(t)
		p.pair(leaf, key)
		if err := os.Chown(p.key, 4711, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(p.config, time.Now()); err == nil || !strings.Contains(err.Error(), "belongs to uid 4711") {
			t.Errorf("a key of another user: %v", err)
		}
	}
}

// TestEachUsualPairIsAccepted: every kind of key, a key in the older forms, a chain with two paths, text around
// the blocks, a certificate that any user may write, and a key that systemd passes.
func TestEachUsualPairIsAccepted(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	root := &tlstest.Cert{Name: "Root", CA: true, Key: tlstest.NewKey(t, "ECDSA")}
	rootPEM := root.PEM(t)
	second := &tlstest.Cert{Name: "Second", CA: true, Key: tlstest.NewKey(t, "ECDSA")}
	second.PEM(t)
	middle := &tlstest.Cert{Name: "Middle", CA: true, Key: tlstest.NewKey(t, "ECDSA"), Parent: root}
	middlePEM := middle.PEM(t)
	cross := (&tlstest.Cert{Name: "Middle", CA: true, Key: middle.Key, Parent: second}).PEM(t)
	for _, kind := range []string{"ECDSA", "RSA", "Ed25519"} {
		key := tlstest.NewKey(t, kind)
		leaf, keyPEM := (&tlstest.Cert{Name: "id.example", Key: key, Parent: middle}).PEM(t), tlstest.KeyPEM(t, key)
		params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 2}})
		for name, pair := range map[string][2][]byte{
			"leaf alone":    {leaf, keyPEM},
			"chain":         {join(leaf, middlePEM, rootPEM), keyPEM},
			"two paths":     {join(leaf, middlePEM, cross), keyPEM},
			"with text":     {join([]byte("subject=id.example\n"), leaf), join([]byte("Bag Attributes\n"), keyPEM)},
			"EC parameters": {leaf, join(params, keyPEM)},
			"one file":      {join(leaf, keyPEM), join(leaf, keyPEM)},
		} {
			p := newPlace(t)
			p.pair(pair[0], pair[1])
			if !bytes.Contains(pair[0], []byte("PRIVATE")) {
				if err := os.Chmod(p.cert, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if pair, err := Load(p.config, time.Now()); err != nil || pair.unfit() != "" || pair.expiry(time.Now()) != "" {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

// TestACertificateThatClientsRefuseIsWarnedAbout and served: only the operator knows whether a client reaches it
// under another name.
func TestACertificateThatClientsRefuseIsWarnedAbout(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	day := 24 * time.Hour
	now := time.Now()
	ec := tlstest.NewKey(t, "ECDSA")
	for name, tt := range map[string]struct {
		cert tlstest.Cert
		want string
	}{
		"fits":             {tlstest.Cert{Name: "id.example"}, ""},
		"wildcard":         {tlstest.Cert{Name: "*.example"}, ""},
		"other name":       {tlstest.Cert{Name: "login.example"}, "the certificate is for login.example and not for the host of issuer, id.example"},
		"address only":     {tlstest.Cert{IP: net.IPv4(192, 0, 2, 1)}, "is for 192.0.2.1 and not"},
		"common name only": {tlstest.Cert{Name: "id.example", CA: true}, "clients ignore its common name: make one with the name id.example, with openssl: -addext subjectAltName=DNS:id.example"},
		"for clients":      {tlstest.Cert{Name: "id.example", Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, "lacks serverAuth"},
		"15 days left":     {tlstest.Cert{Name: "id.example", From: now.Add(-75 * day), Until: now.Add(15 * day)}, ""},
		"13 days left":     {tlstest.Cert{Name: "id.example", From: now.Add(-77 * day), Until: now.Add(13 * day)}, "expires at"},
		"6 days, 5 left":   {tlstest.Cert{Name: "id.example", From: now.Add(-day), Until: now.Add(5 * day)}, ""},
		"6 days, one left": {tlstest.Cert{Name: "id.example", From: now.Add(-5 * day), Until: now.Add(day)}, "expires at"},
	} {
		p := newPlace(t)
		tt.cert.Key = ec
		p.pair(tt.cert.PEM(t), tlstest.KeyPEM(t, ec))
		pair, err := Load(p.config, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := pair.unfit() + pair.expiry(now)
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestAPrivateKeyInTheCertificateFileIsUnderTheRulesOfTheKeyFile: in each order and form, also damaged, encrypted and of
// another certificate. A file that other users may not read is served.
func TestAPrivateKeyInTheCertificateFileIsUnderTheRulesOfTheKeyFile(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	ec := tlstest.NewKey(t, "ECDSA")
	cert, key := (&tlstest.Cert{Name: "id.example", Key: ec}).PEM(t), tlstest.KeyPEM(t, ec)
	der, err := x509.MarshalECPrivateKey(ec.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, text := range map[string][]byte{
		"key last, PKCS #8": join(cert, key), "key first, PKCS #8": join(key, cert), "EC": join(cert, block("EC PRIVATE KEY", der)),
		"RSA":       join(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(tlstest.NewKey(t, "RSA").(*rsa.PrivateKey))), cert),
		"encrypted": join(cert, block("ENCRYPTED PRIVATE KEY", der)), "damaged": join(cert, []byte("-----BEGIN PRIVATE KEY-----\nMC4CAQ")),
	} {
		p := newPlace(t)
		p.pair(text, key)
		if _, err := Load(p.config, time.Now()); err != nil {
			t.Errorf("%s: mode 0600: %v", name, err)
		}
		for _, mode := range []os.FileMode{0o644, 0o604, 0o602} {
			if err := os.Chmod(p.cert, mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(p.config, time.Now())
			if err == nil || !strings.Contains(err.Error(), "tls.cert_file: the file holds a private key, and "+p.cert+" may be read by others") ||
				!strings.Contains(terminal.HintOf(err), "leave only certificates in it, or chmod 600") {
				t.Errorf("%s: mode %v: %v", name, mode, err)
			}
		}
	}
}
