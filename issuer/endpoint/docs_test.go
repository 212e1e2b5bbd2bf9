package endpoint

import (
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
