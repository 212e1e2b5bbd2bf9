package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
	"keymill/integration_test/freeport"
)

// remotely runs a command line as deployer, from a machine without the data directory.
func (p *place) remotely(issuer, server, secret string, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	return p.runWith(environment("KEYMILL_SERVER="+server, "KEYMILL_ISSUER="+issuer, "KEYMILL_CLIENT_ID=deployer", "KEYMILL_CLIENT_SECRET_FILE="+secret), args...)
}

// TestCommandsAskAServerOnTheNetwork as they ask the socket. What the scopes do not allow says what grants it.
func TestCommandsAskAServerOnTheNetwork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, address := p.startRemote()
	issuer, server := "http://"+c.address, "http://"+address
	secret := p.administrator("deployer", "keys:read", "audiences:read", "audiences:write", "clients:read", "clients:write", "users:read", "users:write", "audit:read", "sessions:read", "backup:read", "status:read")
	for _, tt := range []struct {
		line string // words
		code int
		want string
	}{
		{"key list", 0, "EdDSA"},
		{"audience add stock --ttl 5m --json", 0, `"audience": "stock"`},
		{"audience list", 0, "keymill-admin"},
		{"audience remove stock", 0, ""},
		{"client list", 0, "deployer"},
		{"client add extra --grant client_credentials --audience dev-api --json", 0, `"client_secret": "kms_`},
		{"user list", 0, "dev"},
		{"session list --client dev-web", 0, ""},
		{"audit tail --json", 0, `"by":"client:deployer"`},
		{"backup copy.backup", 0, "copy.backup"},
		{"key rotate --alg EdDSA --force", 1, `on the server's machine: "keymill client show deployer" lists its scopes, and "keymill client set deployer" with all of them and --scope keys:rotate grants it`},
		{"client rotate-secret deployer", 1, "run keymill client rotate-secret there"},
		{"client remove deployer", 1, "run keymill client remove there"},
		{"client add more --grant client_credentials --audience keymill-admin --scope keys:read", 1, "run keymill client add there"},
		{"client show nothing", 1, "client nothing does not exist"},
		{"key list --data elsewhere", 1, "no server is running on the data directory elsewhere"}, // a flag goes before a variable
		{"key list --data elsewhere --server " + server, 2, "--server and --data cannot be combined"},
		{"key list --token-file x --client-id y", 2, "--token-file and --client-id cannot be combined"},
		{"key list --server=", 2, "--server is empty"},
		{"key list --server ftp://a", 2, "is not a URL"},
		{"key list --server http://a:b@127.0.0.1", 2, "must not have a user or a password"},
		{"key list --server http://192.0.2.1:8422", 1, "the token would cross the network unencrypted"},
		{"key list --server " + issuer, 1, "is --server the address of admin.listen?"},
		{"key list --client-id other", 1, "the client ID or the secret is wrong"},
		{"key list --issuer http://127.0.0.1:1", 1, "is the server running, and is --issuer its address?"},
		{"key list --server http://127.0.0.1:1", 1, "is the server running, and is --server the address of its admin.listen?"},
	} {
		out, errs, code := p.remotely(issuer, server, secret, strings.Fields(tt.line)...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("keymill %s: code %d\n%s%s", tt.line, code, out, errs)
		}
	}
}

func TestATokenFromElsewhereAsksAServerOnTheNetwork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, address := p.startRemote()
	secret := p.administrator("deployer", "keys:read")
	token := p.must(nil, "token", "--issuer", "http://"+c.address, "--client", "deployer", "--client-secret-file", secret)
	file := p.writeKey("token", token)
	for what, tt := range map[string]struct {
		env, in string
		args    []string
		code    int
		want    string
	}{
		"a flag":          {"", "", []string{"--token-file", file}, 0, "EdDSA"},
		"a variable":      {"KEYMILL_ADMIN_TOKEN_FILE=" + file, "", nil, 0, "EdDSA"},
		"standard input":  {"", token, []string{"--token-file", "-"}, 0, "EdDSA"},
		"another token":   {"", "a.b.c", []string{"--token-file", "-"}, 1, "the token of --token-file may have expired: it is valid for 5m"},
		"no token":        {"", "", []string{"--token-file", "-"}, 1, "is empty: no access token"},
		"two lines":       {"", "a.b.c\nd.e.f", []string{"--token-file", "-"}, 1, "holds more than an access token"},
		"a missing file":  {"", "", []string{"--token-file", file + "x"}, 1, "no such file"},
		"nothing":         {"", "", nil, 2, "--server needs --client-id or --token-file"},
		"a readable file": {"", "", []string{"--token-file", p.readable(token)}, 1, "read"},
	} {
		args := append([]string{"key", "list", "--server", "http://" + address}, tt.args...)
		out, errs, code := p.withInput(environment(tt.env), tt.in, args...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%s: code %d\n%s%s", what, code, out, errs)
		}
		if strings.Contains(errs, strings.TrimSpace(token)) {
			t.Errorf("%s: the token is printed", what)
		}
	}
	_, errs, code := p.run("key", "list", "--token-file", file)
	if code != 2 || !strings.Contains(errs, "--token-file needs --server") {
		t.Errorf("without a server: code %d\n%s", code, errs)
	}
	_, errs, code = p.runWith(append(p.env(), "KEYMILL_SERVER=http://"+address), "key", "list")
	if code != 2 || !strings.Contains(errs, "KEYMILL_SERVER and KEYMILL_DATA are both set") {
		t.Errorf("with both variables: code %d\n%s", code, errs)
	}
}

// readable writes a file that other users can read.
func (p *place) readable(content string) string {
	p.t.Helper()
	path := p.writeKey("readable", content)
	if err := os.Chmod(path, 0o644); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// withInput is runWith with standard input.
func (p *place) withInput(env []string, in string, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := exec.Command(p.binary, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = env, p.dir, strings.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestCommandsAskAServerOverTLS. The authority of the certificate must be one that the machine knows, and only the names
// of the certificate are answered, with the port of the listener.
func TestCommandsAskAServerOverTLS(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	authority := tlstest.Cert{Name: "authority", CA: true, Key: tlstest.NewKey(t, "ECDSA")}
	ca := authority.PEM(t)
	key := tlstest.NewKey(t, "ECDSA")
	leaf := tlstest.Cert{Name: "localhost", IP: net.IPv4(127, 0, 0, 1), Key: key, Parent: &authority}
	other := tlstest.Cert{Name: "other", CA: true, Key: key}
	for name, content := range map[string][]byte{"ca": ca, "other": other.PEM(t), "cert": leaf.PEM(t), "key": tlstest.KeyPEM(t, key)} {
		if err := os.WriteFile(p.tlsFile(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listen := freeAddress(t)
	_, port, _ := net.SplitHostPort(listen)
	issuer := "https://localhost:" + port
	c := p.startWith(p.tlsEnv("KEYMILL_ADMIN_LISTEN=0.0.0.0:0"), "serve", "--data", p.data, "--listen", listen, "--issuer", issuer)
	found := regexp.MustCompile(`admin=\S*:(\d+)`).FindStringSubmatch(c.errs.String())
	if found == nil {
		t.Fatal("the log does not say the address of admin.listen")
	}
	secret := p.administrator("deployer", "keys:read", "backup:read", "status:read")
	for _, tt := range []struct {
		server, ca string
		code       int
		want       string
	}{
		{"https://localhost:" + found[1], "ca", 0, "EdDSA"},
		{"https://127.0.0.1:" + found[1], "ca", 0, "EdDSA"},
		{"https://127.0.0.1:" + found[1] + "/", "ca", 0, "EdDSA"},
		{"https://127.0.0.2:" + found[1], "ca", 1, "use a name that the certificate has as subjectAltName"},
		{"https://localhost:" + found[1], "other", 1, "set SSL_CERT_FILE to the file of its certificate"},
		{"http://localhost:" + found[1], "ca", 1, "If it speaks TLS, begin --server with https://"},
		{"https://" + forwarded(t, "127.0.0.1:"+found[1]), "ca", 1, "and the port of admin.listen"},
	} {
		env := environment("KEYMILL_ISSUER="+issuer, "KEYMILL_CLIENT_ID=deployer", "KEYMILL_CLIENT_SECRET_FILE="+secret, "SSL_CERT_FILE="+p.tlsFile(tt.ca), "SSL_CERT_DIR=/nonexistent")
		if out, errs, code := p.runWith(env, "key", "list", "--server", tt.server); code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%s: code %d\n%s%s", tt.server, code, out, errs)
		}
		if tt.code != 0 {
			continue
		}
		if out, errs, code := p.runWith(env, "backup", "copy.backup", "--overwrite", "--server", tt.server); code != 0 { // a stream, over HTTP/2
			t.Errorf("backup of %s: code %d\n%s%s", tt.server, code, out, errs)
		}
	}
}

// forwarded returns an address that leads to another one, as ssh -L does with another port.
func forwarded(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return l.Addr().String()
}

// freeAddress returns an address of loopback that no program listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
