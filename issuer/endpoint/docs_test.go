package endpoint

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryPublicRouteIsDocumented compares docs/http.md with the public router in both
// directions. The page names a route in a heading or a table, as `POST /token`. HEAD works
// wherever GET does and OPTIONS only answers preflight requests, so the page does not name
// them.
func TestEveryPublicRouteIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	named := regexp.MustCompile("`((?:GET|POST|PUT|PATCH|DELETE) /[^`\\s]*)`")
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "|") {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(m[1], " /admin/") {
				documented = append(documented, m[1])
			}
		}
	}
	var served []string
	for _, r := range newWorld(t).server.public.routes {
		if r.method != http.MethodHead && r.method != http.MethodOptions {
			served = append(served, r.method+" "+r.path)
		}
	}
	for _, s := range served {
		if !slices.Contains(documented, s) {
			t.Errorf("docs/http.md does not name %s", s)
		}
	}
	for _, d := range documented {
		if !slices.Contains(served, d) {
			t.Errorf("docs/http.md names %s, which is not served", d)
		}
	}
	if len(served) < 10 {
		t.Errorf("%d routes are served: the test reads the wrong list", len(served))
	}
}

// TestEveryReasonAndAuditRecordIsDocumented finds the reasons and actions in the code.
func TestEveryReasonAndAuditRecordIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, pattern, section string
		least                  int
	}{
		{"reason", `(?:Because\(|reason\.Code = |reason\.Code, |Reason\{\s*Code: )"([a-z_]+)"|return "([a-z_]+)", (?:"|endings)`, "Failed requests", 14},
		{"action", `"((?:session|token|login|user|client|audience|key|store|masterkey|webhook|audit)\.[a-z_]+)"()`, "Audit log", 30},
	} {
		found := map[string]bool{}
		for _, dir := range []string{"../../issuer", "../../issuer/accesstoken", "../../issuer/outbox", "../../issuer/refreshtoken", "../../keystore", "../../storage/audit", "."} {
			for _, text := range sources(t, dir) {
				for _, m := range regexp.MustCompile(tt.pattern).FindAllStringSubmatch(text, -1) {
					found[m[1]+m[2]] = true
				}
			}
		}
		for _, event := range []string{"session.replayed", "client.revoked", "user.revoked", "store.revoked"} { // of the webhook
			delete(found, event)
		}
		for name := range found {
			if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/operate.md, section %s, does not name the %s %s: add it to the table", tt.section, tt.what, name)
			}
		}
		if len(found) < tt.least {
			t.Errorf("found only %d: %v", len(found), found)
		}
	}
}

// sources returns the Go files of a directory, tests excepted.
func sources(t *testing.T, dir string) (texts []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		b, err := os.ReadFile(dir + "/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// TestTheDocumentHasTheLimitsOfRequests. Package serve compares those of the listeners.
func TestTheDocumentHasTheLimitsOfRequests(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| header, lines | %d | 431 |", maxHeaderLines),
		fmt.Sprintf("| body of a request | %d KiB | 413 |", maxFormBytes>>10),
		fmt.Sprintf("| parameters of a form or a query | %d | 400 |", maxParameters),
	} {
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/operate.md has no row %q", row)
		}
	}
}
