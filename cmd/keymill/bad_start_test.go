package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A badStart is a start that must fail.
type badStart struct {
	name string
	old  bool // whether the store exists before
	prep func(p *place) (env, args []string)
	want string
}

// badStores have wrong keys or damaged stores.
func badStores() []badStart {
	return []badStart{
		{"wrong master key", true, func(p *place) ([]string, []string) {
			p.writeKey("master.key", testKey("x"))
			return nil, nil
		}, "the master key does not open this store"},
		{"no master key", true, func(p *place) ([]string, []string) {
			return environment(), nil
		}, "a master key is required, and master_key_file is not set\n  hint: the store in "},
		{"no master key and no store", false, func(p *place) ([]string, []string) {
			return environment(), nil
		}, "a master key is required, and master_key_file is not set\n  hint: make one: (umask 077; set -C; head -c 32 /dev/urandom | base64 > master.key); then set KEYMILL_MASTER_KEY_FILE=master.key\n"},
		{"master key that others may read", true, func(p *place) ([]string, []string) {
			os.Chmod(filepath.Join(p.dir, "master.key"), 0o604)
			return nil, nil
		}, "may be read by others (mode 0604)\n  hint: chmod 600 "},
		{"master key of 31 bytes", false, func(p *place) ([]string, []string) {
			p.writeKey("master.key", strings.Repeat("k", 31))
			return nil, nil
		}, "does not hold a master key: 32 bytes"},
		{"missing master key", false, func(p *place) ([]string, []string) {
			os.Remove(filepath.Join(p.dir, "master.key"))
			return nil, nil
		}, "master key: /"},
		{"truncated store", true, func(p *place) ([]string, []string) {
			os.Truncate(p.store(), 12<<10)
			return nil, nil
		}, "open store "},
		{"empty store file", true, func(p *place) ([]string, []string) {
			os.Truncate(p.store(), 0)
			return nil, nil
		}, "the store in it is lost; restore a backup"},
		{"foreign store file", true, func(p *place) ([]string, []string) {
			p.overwrite("SQLite format 3\x00" + strings.Repeat("\x01", 32<<10))
			return nil, nil
		}, "open store "},
		{"foreign file in a directory without a lock", true, func(p *place) ([]string, []string) {
			os.Remove(filepath.Join(p.data, "lock"))
			p.overwrite("hello")
			return nil, nil
		}, "open store "},
		{"missing keyring", true, func(p *place) ([]string, []string) {
			p.deleteRecord("keyring")
			return nil, nil
		}, "record keyring is damaged: it is missing\n  hint: restore a backup"},
		{"missing meta", true, func(p *place) ([]string, []string) {
			p.deleteRecord("meta")
			return nil, nil
		}, "but no meta record"},
		{"store made without --dev", true, func(p *place) ([]string, []string) {
			return environment(), []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", p.data}
		}, "holds a store that --dev did not create\n  hint: serve it without --dev"},
	}
}

const goodHookSecret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"

func (p *place) hookEnv(url string) []string {
	return append(p.env(), "KEYMILL_WEBHOOK_URL="+url, "KEYMILL_WEBHOOK_SECRET_FILE="+filepath.Join(p.dir, "webhook.secret"))
}

// badSettings have wrong addresses, paths and settings.
func badSettings() []badStart {
	return []badStart{
		{"a file at the path of the socket", true, func(p *place) ([]string, []string) {
			os.WriteFile(filepath.Join(p.data, "admin.sock"), []byte("mine"), 0o600)
			return nil, nil
		}, "is not a socket; remove it"},
		{"too long a socket path", false, func(p *place) ([]string, []string) {
			return nil, append(p.serveArgs(), "--data", filepath.Join(p.dir, strings.Repeat("d", 100)))
		}, "the path of the admin socket would have "},
		{"issuer without https", false, func(p *place) ([]string, []string) {
			return nil, append(p.serveArgs(), "--issuer", "http://id.example.com")
		}, `--issuer: issuer "http://id.example.com" must use https`},
		{"no issuer", false, func(p *place) ([]string, []string) {
			return nil, []string{"serve", "--data", p.data}
		}, "issuer: the setting is required\n  hint: name the configuration: --config FILE; or set it: --issuer https://id.example.com; or try everything with --dev"},
		{"port in use", false, func(p *place) ([]string, []string) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				p.t.Fatal(err)
			}
			p.t.Cleanup(func() { l.Close() })
			return nil, append(p.serveArgs(), "--listen", l.Addr().String())
		}, "address already in use\n  hint: another program has the port"},
		{"port of the metrics in use", false, func(p *place) ([]string, []string) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				p.t.Fatal(err)
			}
			p.t.Cleanup(func() { l.Close() })
			return append(p.env(), "KEYMILL_METRICS_LISTEN="+l.Addr().String()), nil
		}, "KEYMILL_METRICS_LISTEN: cannot listen on 127.0.0.1:"},
		{"metrics at the public port", false, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_METRICS_LISTEN=127.0.0.1:8421"), append(p.serveArgs(), "--listen", "127.0.0.1:8421")
		}, "KEYMILL_METRICS_LISTEN: \"127.0.0.1:8421\" has the port of listen (127.0.0.1:8421)\n  hint: metrics have a port of their own"},
		{"metrics of a trial on a network", false, func(p *place) ([]string, []string) {
			return environment("KEYMILL_METRICS_LISTEN=0.0.0.0:0"), []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", p.data}
		}, "KEYMILL_METRICS_LISTEN: --dev listens on loopback only, and \"0.0.0.0:0\" is not loopback"},
		{"no parent directory", false, func(p *place) ([]string, []string) {
			return nil, append(p.serveArgs("--init"), "--data", filepath.Join(p.dir, "no", "where"))
		}, "cannot create the data directory: /"},
		{"a file for a directory", false, func(p *place) ([]string, []string) {
			return nil, append(p.serveArgs(), "--data", filepath.Join(p.dir, "master.key"))
		}, "not a directory"},
		{"webhook secret that others may read", false, func(p *place) ([]string, []string) {
			os.Chmod(p.writeKey("webhook.secret", goodHookSecret), 0o644)
			return p.hookEnv("https://hooks.example"), nil
		}, "webhook.secret may be read by others (mode 0644)\n  hint: chmod 600 "},
		{"missing webhook secret", false, func(p *place) ([]string, []string) {
			return p.hookEnv("https://hooks.example"), nil
		}, "webhook secret: /"},
		{"malformed webhook secret", false, func(p *place) ([]string, []string) {
			p.writeKey("webhook.secret", "swordfish")
			return p.hookEnv("https://hooks.example"), nil
		}, "webhook.secret: the webhook's secret must be \"whsec_\" and the base64 of 24 to 64 random bytes\n  hint: make one: "},
		{"webhook in the clear", true, func(p *place) ([]string, []string) {
			p.writeKey("webhook.secret", goodHookSecret)
			return p.hookEnv("http://hooks.example"), nil
		}, "KEYMILL_WEBHOOK_URL: the webhook's URL (host hooks.example) must use https"},
		{"prefix that conflicts", true, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_SIMPLEJWT_PREFIX=/session"), nil
		}, "KEYMILL_SIMPLEJWT_PREFIX: \"/session\" conflicts with the server's own path /session\n  hint: simplejwt.prefix: /api"},
		{"client that no cookie is named after", true, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_SESSION_CLIENT=my app"), nil
		}, "KEYMILL_SESSION_CLIENT: \"my app\" has the character ' '"},
		{"mark in a missing directory, new store", false, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_STORE_MARK_FILE="+filepath.Join(p.dir, "marks", "keymill.mark")), p.serveArgs("--init")
		}, "/marks/keymill.mark cannot be made: its directory "},
		{"mark that is another file, new store", false, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_STORE_MARK_FILE="+p.writeKey("precious", "precious")), p.serveArgs("--init")
		}, "precious: it has 8 bytes, a mark has 8192; if it is a damaged mark, move it away"},
		{"mark that is a link", true, func(p *place) ([]string, []string) {
			os.Remove(p.at("keymill.mark"))
			os.Symlink(filepath.Join(p.dir, "precious"), p.at("keymill.mark"))
			return nil, nil
		}, "keymill.mark"},
		{"audit log in a missing directory", true, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_AUDIT_LOG="+filepath.Join(p.dir, "logs", "audit.log")), nil
		}, "/logs/audit.log cannot be made: its directory "},
		{"audit log that is the store", true, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_AUDIT_LOG="+p.store()), nil
		}, "is the file keymill.db of the data directory\n  hint: write stderr, or name a file of its own"},
		{"file to apply that is bad", false, func(p *place) ([]string, []string) {
			path := p.writeKey("apply.yaml", "audiences:\n  - name: orders\n    scope: [read]\n")
			return append(p.env(), "KEYMILL_APPLY="+path), p.serveArgs("--init")
		}, "/apply.yaml:3: unknown key \"scope\"; did you mean \"scopes\"?\n"},
		{"files to apply from standard input", false, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_APPLY=-"), p.serveArgs("--init")
		}, "a server does not read standard input"},
		{"bad configuration", false, func(p *place) ([]string, []string) {
			path := filepath.Join(p.dir, "keymill.yaml")
			os.WriteFile(path, []byte("issuer: https://id.example.com\nkey: {}\n"), 0o600)
			return nil, append(p.serveArgs(), "--config", path)
		}, ":2: unknown setting \"key\"; did you mean \"keys\"?"},
	}
}

// TestABadStartIsOneLineAndChangesNothing: the operator reads one line and perhaps a hint, and
// the directory stays the same byte for byte.
func TestABadStartIsOneLineAndChangesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range slices.Concat(badStores(), badSettings(), missingStores(), wrongStores(), otherIssuers()) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			if tt.old {
				p = made(t)
			}
			env, args := tt.prep(p)
			if env == nil {
				env = p.env()
			}
			if args == nil {
				args = p.serveArgs()
			}
			before := snapshot(t, p.dir)
			out, errs, code := p.runWith(env, args...)
			if code != 1 || out != "" || !strings.Contains(errs, tt.want) || !strings.HasPrefix(errs, "keymill: ") {
				t.Errorf("code %d, stdout %q, stderr\n%swant %s", code, out, errs, tt.want)
			}
			if lines := strings.Count(errs, "\n"); lines > 2 || lines == 2 && !strings.Contains(errs, "\n  hint: ") {
				t.Errorf("%d lines:\n%s", lines, errs)
			}
			if after := snapshot(t, p.dir); after != before {
				t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
			}
		})
	}
}
