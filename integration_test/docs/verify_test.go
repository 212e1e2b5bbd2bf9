package docs

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

// askPython calls the page's verify with a token and prints the subject.
const askPython = `import sys, page
print("subject", page.verify(sys.argv[1])["sub"])
`

// askNode does the same. It calls the page's Express application over HTTP, if there is one.
const askNode = `import { argv } from "node:process";
const page = await import("./page.mjs");
let subject;
if (page.app) {
  const server = page.app.listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const answer = await fetch("http://127.0.0.1:" + server.address().port, { headers: { Authorization: "Bearer " + argv[2] } });
  if (answer.status !== 200) throw new Error("status " + answer.status);
  subject = (await answer.json()).sub;
  server.close();
} else {
  subject = (await page.verify(argv[2])).sub;
}
console.log("subject", subject);
process.exit(0);
`

// TestVerifierPagesWork gives each program of the pages in docs/verify a token for its
// audience and one for another. It must accept the first and refuse the second.
func TestVerifierPagesWork(t *testing.T) {
	needs(t, "unshare", "curl", "openssl", "setpriv", "useradd", "nginx", "caddy", "systemd-analyze", "node")
	t.Parallel()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	needsFile(t, filepath.Join(root, "integration_test/verifiers/node/node_modules"))
	all, err := pages.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	installed(t, &s)
	s.page(readPage(t, "docs/verify/README.md"), everyBlock)
	s.add("a client", `keymill audience add parts --alg EdDSA --scope read
keymill audience add stock --alg RS256 --scope read --profile simplejwt
keymill client add reader --grant client_credentials --audience orders --audience shop --audience parts --audience stock --scope read --json >reader.json
export KEYMILL_ISSUER=https://id.example.com KEYMILL_CLIENT_SECRET=$(sed -n 's/.*"client_secret": *"\([^"]*\)".*/\1/p' reader.json)
orders=$(keymill token --client reader --audience orders) shop=$(keymill token --client reader --audience shop)
parts=$(keymill token --client reader --audience parts) stock=$(keymill token --client reader --audience stock)
ln -s "$ROOT/integration_test/verifiers/node/node_modules"`)
	asked := 0
	for _, p := range all {
		if path.Dir(p.Path) != "docs/verify" {
			continue
		}
		for _, b := range p.Blocks {
			where := fmt.Sprintf("%s:%d", p.Path, b.Line)
			valid, other := "$orders", "$parts" // with the same algorithm, so that only the audience differs
			if strings.Contains(b.Text, `"shop"`) {
				valid, other = "$shop", "$stock"
			}
			switch {
			case b.Language == "python" && strings.Contains(b.Text, "def verify("):
				s.ask(where, b.Text, withPython, valid, other)
			case b.Language == "js":
				s.ask(where, b.Text, withNode, valid, other)
			default:
				continue
			}
			asked++
		}
	}
	if asked != 6 {
		t.Errorf("found %d programs, want 6", asked)
	}
	if n := strings.Count(s.run(t), "subject reader"); n != asked {
		t.Errorf("%d of %d programs accepted the token", n, asked)
	}
}

// A caller calls the program of a page.
type caller struct{ page, ask, text, command string }

var (
	withPython = caller{"page.py", "ask.py", askPython, "/usr/bin/python3 -B ask.py"}
	// Debian 12 has Node 18, where jose needs the flag.
	withNode = caller{"page.mjs", "ask.mjs", askNode, "node --experimental-global-webcrypto --no-warnings ask.mjs"}
)

// ask adds a program and two calls of it.
func (s *script) ask(where, program string, c caller, valid, other string) {
	s.add(where, writeFile(c.page, program)+writeFile(c.ask, c.text)+fmt.Sprintf(
		"%s \"%s\"\nif %s \"%s\" >/dev/null 2>&1; then echo 'a token for another audience is accepted'; exit 1; fi",
		c.command, valid, c.command, other))
}
