package docs

import (
	"path/filepath"
	"strings"
	"testing"
)

// fakeBuild installs a go command on README's machine whose "go build" copies the binary under test.
// Compiling it again would take longer than all pages together.
const fakeBuild = `mkdir -p scripts
cp "$ROOT/scripts/run" scripts/
cp "$ROOT/go.mod" . # names the Go version that scripts/run needs
real=$(command -v go)
cat >/usr/local/bin/go <<END
#!/bin/sh
[ "\$1" = build ] || exec $real "\$@"
mkdir -p bin && exec cp /usr/local/bin/keymill bin/keymill
END
chmod 755 /usr/local/bin/go`

// TestTheFiveMinuteTrialWorks runs the commands of README.
func TestTheFiveMinuteTrialWorks(t *testing.T) {
	needs(t, "unshare", "curl", "openssl")
	t.Parallel()
	var s script
	s.add("go", fakeBuild)
	s.page(readPage(t, "README.md"), everyBlock)
	s.add("check", "bin/keymill session list --data keymill-dev --user dev --json | grep '\"generation\"'")
	out := s.run(t)
	if n := strings.Count(out, "signature"); n < 2 {
		t.Errorf("the token was verified %d times, want 2:\n%s", n, out)
	}
}

// TestOperateInstallsAServer: systemd accepts the unit, its command works as its user with the
// credential, and nginx forwards requests.
func TestOperateInstallsAServer(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	s.page(readPage(t, "docs/operate.md"), everyBlock)
	s.add("the server runs as its user", `[[ $(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "/proc/$(</run/keymill.pid)/status") == $(id -u keymill) ]]`)
	s.add("its user cannot read the master key", `if setpriv --reuid keymill --regid keymill --init-groups cat /etc/keymill/master.key; then exit 1; fi`)
	s.add("a copy was made, restored and is served", `ls /var/backups/keymill/*.age /var/lib/keymill/keymill.db.before-*
keymill audit tail --data /var/lib/keymill --all | grep store.restore`)
	s.add("its user owns all of its data", `[[ -z $(find /var/lib/keymill ! -user keymill) ]]`)
	s.add("a failure is counted by the caller's address", `curl -s --interface 127.0.0.2 https://id.example.com/token -u billing:wrong -d grant_type=client_credentials >/dev/null
grep -q 'from=127.0.0.2' /run/keymill.log`)
	s.add("it shares a host with other programs", shareHost)
	s.run(t)
}

// shareHost serves below a path of another host, with the file of the page. Services need nothing but the issuer.
const shareHost = `systemctl stop keymill
cat >/etc/nginx/conf.d/shop.conf <<'END'
server {
	listen 127.0.0.1:80;
	include snippets/keymill.conf;
	location / { return 418; }
}
END
nginx -s reload
ISSUER=http://127.0.0.1/auth
keymill serve --dev --data shared --issuer "$ISSUER" --listen 127.0.0.1:8420 >shared.log 2>&1 &
SHARED=$!
for _ in {1..600}; do
	curl -sf "$ISSUER/readyz" && break
	kill -0 "$SHARED" || { cat shared.log; exit 1; }
	sleep 0.05
done
for path in /.well-known/oauth-authorization-server/auth /auth/.well-known/openid-configuration; do
	curl -sf "http://127.0.0.1$path" | grep '"issuer":"http://127.0.0.1/auth"'
done
[[ $(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/token) == 418 ]]
TOKEN=$(keymill token --data shared --client dev-service --audience dev-api)
keymill verify "$TOKEN" --issuer "$ISSUER" --audience dev-api
kill "$SHARED"`

// TestHTTPExamplesWork runs the requests of docs/http.md.
func TestHTTPExamplesWork(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	installed(t, &s)
	s.page(readPage(t, "docs/http.md"), everyBlock)
	if out := s.run(t); !strings.Contains(out, `{"active":false}`) {
		t.Errorf("the revoked token is not reported as inactive:\n%s", out)
	}
}

// TestTheAdminAPICanBeAsked runs docs/admin.md.
func TestTheAdminAPICanBeAsked(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	installed(t, &s)
	s.page(readPage(t, "docs/admin.md"), everyBlock)
	if out := s.run(t); !strings.Contains(out, `"code":"precondition_failed"`) || !strings.Contains(out, `"ready":true`) {
		t.Errorf("the output is\n%s", out)
	}
}

// TestUsersCanLogIn runs docs/people.md.
func TestUsersCanLogIn(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	installed(t, &s)
	s.page(readPage(t, "docs/people.md"), everyBlock)
	s.add("the webhook's secret is accepted", "sed -i '$a webhook: {url: https://hooks.example.com/keymill, secret_file: /etc/keymill/webhook.secret}' /etc/keymill/keymill.yaml\nsystemctl restart keymill")
	s.run(t)
}

// TestVerifiersAreFollowed runs docs/verifiers.md, and then what it says about --watch.
func TestVerifiersAreFollowed(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	installed(t, &s)
	s.page(readPage(t, "docs/verifiers.md"), everyBlock)
	s.add("the service fetched through nginx", `keymill verifier show orders-api --json | grep '"last": "20'`)
	s.add("the watch ends when the service fetches", `curl -sf -o /dev/null "$URL"
KID=$(keymill key list | awk '$2 == "RS256" && $3 == "active" {print $1}')
keymill key revoke "$KID" --watch >watched &
until keymill verifier list --holding "$KID" | grep orders-api && [[ -s watched ]]; do sleep 0.1; done
curl -sf -o /dev/null "$URL"
wait $!
cat watched`)
	out := s.run(t)
	for _, want := range []string{"\nmay hold it:  orders-api", "\norders-api was served a set without it, last at 20", "\nno pinned verifier holds the key\n", "removed verifier django-1"} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing was printed like %q:\n%s", want, out)
		}
	}
}

// TestFilesAreApplied runs docs/apply.md.
func TestFilesAreApplied(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	installed(t, &s)
	page := readPage(t, "docs/apply.md")
	s.page(page, everyBlock)
	s.add("the secret of the file works", `keymill token --issuer https://id.example.com --client mailer --client-secret-file /etc/keymill/apply/mailer.secret`)
	out := s.run(t)
	for _, want := range []string{
		"+ audience invoices (alg EdDSA, ttl 10m, profile rfc9068, scopes read write)\n+ client mailer (confidential, grants client_credentials, audiences invoices, scopes read)\n",
		"= 4 unchanged\n", "- verifier invoices-api (applied earlier, no longer in the files)\n= 3 unchanged\napplied\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing was printed like %q:\n%s", want, out)
		}
	}
}

// TestAStoreCanBeMoved runs docs/migrate.md: what can be done beside a running server.
func TestAStoreCanBeMoved(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze")
	t.Parallel()
	var s script
	installed(t, &s)
	s.page(readPage(t, "docs/migrate.md"), everyBlock)
	out := s.run(t)
	for _, want := range []string{"nothing was changed, because of --dry-run\n", "/var/lib/keymill is written again; it was not moved\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing was printed like %q:\n%s", want, out)
		}
	}
}

// TestADjangoProjectMoves runs docs/django.md on a project with one user.
func TestADjangoProjectMoves(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze", "python3")
	t.Parallel()
	project, err := filepath.Abs("../simplejwt/django/project.py")
	if err != nil {
		t.Fatal(err)
	}
	var s script
	installed(t, &s)
	s.add("a project", `export PROJECT_DATABASE=$PWD/project.sqlite
export PROJECT_PEOPLE='[{"username": "alice", "password": "correct horse battery staple", "hasher": "pbkdf2_sha256"}]'
ln -s '`+project+`' manage.py
python -B manage.py prepare`)
	s.page(readPage(t, "docs/django.md"), everyBlock)
	if out := s.run(t); !strings.Contains(out, `"access":`) {
		t.Errorf("alice cannot log in with her password from Django:\n%s", out)
	}
}
