package tlsfiles

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// A keeping is a Keeper that runs in a bubble.
type keeping struct {
	*place
	*Keeper
	log *terminaltest.Buffer
}

// keep opens a Keeper on a first pair and runs it until the test ends.
func (p *place) keep(t *testing.T, cert, key []byte) *keeping {
	t.Helper()
	p.pair(cert, key)
	log := &terminaltest.Buffer{}
	k, err := Open(p.config, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	t.Cleanup(func() { end(); <-done })
	log.Take()
	time.Sleep(Every / 2) // the test changes files between two looks
	return &keeping{p, k, log}
}

// serves checks which name the next handshake gets, after a while, and that the log got exactly these lines.
func (k *keeping) serves(what, name string, lines ...string) {
	k.t.Helper()
	time.Sleep(10 * Every)
	cert, err := k.TLSConfig().GetCertificate(nil)
	if err != nil || k.current.Load().names() != name || len(cert.Certificate) == 0 {
		k.t.Errorf("%s: the certificate of %s is served, want %s", what, k.current.Load().names(), name)
	}
	log := k.log.Take()
	if n := strings.Count(log, "\n"); n != len(lines) {
		k.t.Errorf("%s: %d lines, want %d:\n%s", what, n, len(lines), log)
	}
	for _, line := range lines {
		if !strings.Contains(log, line) {
			k.t.Errorf("%s: no line %q in\n%s", what, line, log)
		}
	}
}

// warned checks the text of the only warning, or that there is none.
func (k *keeping) warned(what, want string) {
	k.t.Helper()
	list := k.Warnings()
	switch {
	case want == "" && len(list) > 0:
		k.t.Errorf("%s: %v", what, list)
	case want != "" && (len(list) != 1 || list[0].Check != "tls" || !strings.Contains(list[0].Detail, want)):
		k.t.Errorf("%s: %v, want %q", what, list, want)
	}
}

const (
	unusable = `level=WARN msg="the TLS files cannot be used; the previous certificate is still served"`
	serving  = `level=INFO msg="serving a TLS certificate" names=`
	again    = `level=INFO msg="the TLS files can be used again"`
)

// inBubble runs a test with a clock of its own, which begins in the year 2000.
func inBubble(t *testing.T, test func(t *testing.T)) {
	terminaltest.ClearEnvironment(t)
	synctest.Test(t, test)
}

// TestAReplacedPairIsServedAndAnUnusableOneIsNot: while the files cannot be used, the previous certificate is still served, is one line
// and a warning for as long as it lasts, and its end is one line.
func TestAReplacedPairIsServedAndAnUnusableOneIsNot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		k1, k2 := tlstest.NewKey(t, "ECDSA"), tlstest.NewKey(t, "RSA")
		cert := func(key crypto.Signer) []byte { return (&tlstest.Cert{Name: "id.example", Key: key}).PEM(t) }
		one, two := cert(k1), (&tlstest.Cert{Name: "*.example", Key: k2}).PEM(t)
		key1, key2 := tlstest.KeyPEM(t, k1), tlstest.KeyPEM(t, k2)
		k := newPlace(t).keep(t, one, key1)
		k.serves("untouched", "id.example")

		k.write(k.cert, two)
		k.serves("the certificate first", "id.example", unusable)
		k.warned("the certificate first", "the key is ECDSA, and the certificate in")
		k.serves("and later", "id.example")
		k.write(k.key, key2)
		k.serves("the key seconds later", "*.example", serving+"*.example")
		k.warned("whole", "")

		k.write(k.cert, two[:len(two)/2])
		k.serves("half-written", "*.example", unusable)
		k.write(k.cert, two)
		k.serves("as before", "*.example", again)
		k.write(k.cert, two)
		k.serves("written again", "*.example")

		for what, change := range map[string]func() error{
			"removed":    func() error { return os.Remove(k.key) },
			"unreadable": func() error { return os.Chmod(k.key, 0o644) },
			"empty":      func() error { return os.Truncate(k.key, 0) },
			"directory":  func() error { return errors.Join(os.Remove(k.key), os.Mkdir(k.key, 0o700)) },
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			k.serves(what, "*.example", unusable)
			k.warned(what, "tls.key_file")
			if err := os.RemoveAll(k.key); err != nil {
				t.Fatal(err)
			}
			// The removal before the new file may be seen as a fault of its own.
			k.write(k.key, key2)
			k.serves("mended: "+what, "*.example", again)
		}
		k.pair((&tlstest.Cert{Name: "id.example", Key: k1, Until: time.Now().Add(-time.Minute)}).PEM(t), key1)
		k.serves("expired", "*.example", unusable)
		k.pair((&tlstest.Cert{Name: "id.example", Key: k1, From: time.Now().Add(time.Hour)}).PEM(t), key1)
		k.serves("not yet valid", "*.example", unusable)
		time.Sleep(time.Hour)
		k.serves("an hour later, without a change", "id.example", serving)
	})
}

// TestLinksAreFollowed: certbot replaces the two links of live/, and Kubernetes the one link ..data above both files.
func TestLinksAreFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPlace(t)
		write := func(dir, name string) {
			t.Helper()
			key := tlstest.NewKey(t, "ECDSA")
			if err := os.MkdirAll(filepath.Join(p.dir, dir), 0o700); err != nil {
				t.Fatal(err)
			}
			p.write(filepath.Join(p.dir, dir, "cert.pem"), (&tlstest.Cert{Name: name, Key: key}).PEM(t))
			p.write(filepath.Join(p.dir, dir, "key.pem"), tlstest.KeyPEM(t, key))
		}
		link := func(target, name string) {
			t.Helper()
			path := filepath.Join(p.dir, name)
			if err := errors.Join(os.Symlink(target, path+".new"), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
		write("..1", "id.example")
		write("..2", "*.example")
		write("archive", "id.example")
		link("..1", "..data")
		k := p.keep(t, []byte("x\n"+string(read(t, p.dir+"/..1/cert.pem"))), read(t, p.dir+"/..1/key.pem"))
		link("..data/cert.pem", "cert.pem")
		link("..data/key.pem", "key.pem")
		k.serves("links to the same", "id.example")
		link("..2", "..data")
		k.serves("Kubernetes", "*.example", serving)
		link("archive/cert.pem", "cert.pem")
		link("archive/key.pem", "key.pem")
		k.serves("certbot", "id.example", serving)
	})
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTheEndOfTheCertificateIsWarnedAboutFrom14DaysBefore, by one line then and one at the end, and the new
// certificate ends the warning.
func TestTheEndOfTheCertificateIsWarnedAboutFrom14DaysBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		day := 24 * time.Hour
		key := tlstest.NewKey(t, "ECDSA")
		made := func(left time.Duration) []byte {
			return (&tlstest.Cert{Name: "id.example", Key: key, From: time.Now().Add(left - 90*day), Until: time.Now().Add(left)}).PEM(t)
		}
		k := newPlace(t).keep(t, made(14*day+time.Hour), tlstest.KeyPEM(t, key))
		k.serves("before", "id.example")
		k.warned("before", "")
		time.Sleep(time.Hour)
		k.serves("14 days before", "id.example", `level=WARN msg="the TLS certificate must be renewed"`)
		k.warned("14 days before", "expires at")
		k.write(k.cert, made(time.Hour))
		k.serves("another one, an hour before", "id.example", serving, `level=WARN msg="the TLS certificate must be renewed"`)
		k.warned("an hour before", "expires at")
		time.Sleep(time.Hour)
		k.serves("expired", "id.example", `level=WARN msg="the TLS certificate must be renewed"`)
		k.warned("expired", "expired at")
		k.write(k.cert, made(90*day))
		k.serves("renewed", "id.example", serving)
		k.warned("renewed", "")
	})
}

// TestPrepareChangesNothingUntilItIsUsed.
func TestPrepareChangesNothingUntilItIsUsed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		key := tlstest.NewKey(t, "ECDSA")
		p, next := newPlace(t), newPlace(t)
		k := p.keep(t, (&tlstest.Cert{Name: "id.example", Key: key}).PEM(t), tlstest.KeyPEM(t, key))
		if _, err := k.Prepare(next.config); err == nil {
			t.Error("files that are missing were prepared")
		}
		next.pair((&tlstest.Cert{Name: "*.example", Key: key}).PEM(t), tlstest.KeyPEM(t, key))
		use, err := k.Prepare(next.config)
		if err != nil {
			t.Fatal(err)
		}
		k.serves("prepared", "id.example")
		use()
		k.serves("used", "*.example", serving)
		next.write(next.cert, nil)
		k.serves("the new files are followed", "*.example", unusable)
	})
}

// TestAReloadDropsNoConnection: a connection with the old certificate goes on, and the next one gets the new.
func TestAReloadDropsNoConnection(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	key := tlstest.NewKey(t, "ECDSA")
	one, two := (&tlstest.Cert{Name: "id.example", Key: key}).PEM(t), (&tlstest.Cert{Name: "id.example", Key: key}).PEM(t)
	p := newPlace(t)
	p.pair(one, tlstest.KeyPEM(t, key))
	k, err := Open(p.config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", k.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	dial := func(roots []byte) (net.Conn, error) {
		return tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: tlstest.Pool(roots), ServerName: "id.example"})
	}
	echo := func(c net.Conn) {
		t.Helper()
		got := make([]byte, 4)
		if _, err := io.WriteString(c, "echo"); err != nil {
			t.Error(err)
		} else if _, err := io.ReadFull(c, got); err != nil || string(got) != "echo" {
			t.Errorf("%q, %v", got, err)
		}
	}
	before, err := dial(one)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	echo(before)
	p.write(p.cert, two)
	k.look()
	echo(before)
	after, err := dial(two)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	echo(after)
	if _, err := dial(one); err == nil {
		t.Error("the old certificate is still presented")
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if c, err := tls.Dial("tcp", l.Addr().String(), old); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
}
