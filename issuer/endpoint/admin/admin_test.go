package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// TestTheTableOfPackageAPIListsAllRoutes compares in both directions, with the types that the handlers
// have.
func TestTheTableOfPackageAPIListsAllRoutes(t *testing.T) {
	source, err := os.ReadFile("../../api/api.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(source), "\npackage api")
	row := regexp.MustCompile(`^//\t(/admin/v1/\S+)?\s+(GET|POST|PUT|PATCH|DELETE)\s+(\S+)\s+(.+)\n`)
	var documented, served []string
	path := ""
	for line := range strings.Lines(doc) {
		if m := row.FindStringSubmatch(line); m != nil {
			if m[1] != "" {
				path = m[1]
			}
			documented = append(documented, strings.Join([]string{m[2], path, m[3], m[4]}, " "))
		}
	}
	for _, r := range New(Config{}).routes() {
		served = append(served, strings.Join([]string{r.Method, r.Path, tableName(r.Body), tableName(r.Answer)}, " "))
	}
	for _, s := range served {
		if !slices.Contains(documented, s) {
			t.Errorf("%s is not documented in package api", s)
		}
	}
	for _, d := range documented {
		if !slices.Contains(served, d) {
			t.Errorf("%s is documented in package api and not served", d)
		}
	}
}

// tableName is how the table of package api names a type.
func tableName(t reflect.Type) string {
	switch {
	case t == nil, t == reflect.TypeFor[any]():
		return "–"
	case t == reflect.TypeFor[Stream]():
		return "a copy of the store, see package backup"
	case t == reflect.TypeFor[json.RawMessage]():
		return "the OpenAPI document"
	case t.Kind() == reflect.Slice:
		return "[]" + t.Elem().Name()
	}
	return t.Name()
}

// TestRoutesAreComplete: a route without a scope would be open to every token.
func TestRoutesAreComplete(t *testing.T) {
	scopes := regexp.MustCompile(`^(keys:(read|rotate|revoke|import)|(applied|audiences|clients|users|sessions|verifiers):(read|write)|(audit|status|settings|backup):read|store:migrate)$`)
	seen := map[string]bool{}
	for _, r := range New(Config{}).routes() {
		name := r.Method + " " + r.Path
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if !scopes.MatchString(string(r.Scope)) || r.Scope.SocketOnly() != (r.Path == "/admin/v1/keys/import" || strings.HasPrefix(r.Path, "/admin/v1/migration")) {
			t.Errorf("%s has scope %q, only for the socket: %v", name, r.Scope, r.Scope.SocketOnly())
		}
		if reads := strings.HasSuffix(string(r.Scope), ":read"); reads != (r.Method == "GET") && r.Path != "/admin/v1/backup" && r.Path != "/admin/v1/session/why" {
			t.Errorf("%s has scope %s", name, r.Scope)
		}
		if r.Summary == "" || strings.HasSuffix(r.Summary, ".") {
			t.Errorf("%s has summary %q", name, r.Summary)
		}
		if empty := r.Answer == reflect.TypeFor[any](); empty != (r.Status == http.StatusNoContent) {
			t.Errorf("%s answers %d with %v: its handler must return the type of the answer", name, r.Status, r.Answer)
		}
		for _, p := range r.Query {
			if p.Name == "" || p.Doc == "" {
				t.Errorf("%s has parameter %+v", name, p)
			}
		}
	}
}

func TestTheAuditLogHasTheParametersThatAreRead(t *testing.T) {
	var names []string
	for _, p := range auditParameters() {
		names = append(names, p.Name)
	}
	if want := api.AuditParameters(); !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

// TestAnUnknownParameterIsRefused by every route, before anything is done: an API that has nothing to
// call would panic.
func TestAnUnknownParameterIsRefused(t *testing.T) {
	ask := func(r Route, query string) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		_, err = r.Handler(httptest.NewRequest(r.Method, r.Path+"?"+query, strings.NewReader("{}")))
		return err
	}
	for _, r := range New(Config{}).routes() {
		for _, query := range []string{"unsed=true", "Unused=true", "dry_run=1", "id=a&name=b&user=c&limit=5&x", "%00"} {
			err := ask(r, query)
			if code := refusal.CodeOf(err); code != "invalid_request" {
				t.Errorf("%s %s?%s: %v", r.Method, r.Path, query, err)
			}
		}
		if !strings.HasPrefix(r.Path, "/admin/v1/client") || r.Method != http.MethodDelete {
			continue
		}
		for _, value := range []string{"", "1", "TRUE", "True", "yes", "false", "true ", "true&unused=true"} {
			query := "id=web&unused=" + url.PathEscape(value)
			if strings.Contains(value, "&") {
				query = "id=web&unused=" + value
			}
			err := ask(r, query)
			if code := refusal.CodeOf(err); code != "invalid_request" {
				t.Errorf("%s %s?%s: %v", r.Method, r.Path, query, err)
			}
		}
	}
}

func TestOnlyASocketHasAnActor(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	ctx := ConnContext(context.Background(), a)
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
	r := httptest.NewRequest("GET", "/admin/v1/status", nil).WithContext(ctx)
	if by := Actor(r); by != "" {
		t.Errorf("a connection that is not a socket has actor %q", by)
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("a request without an actor ended with %v", p)
		}
	}()
	CheckPeer(r)
}

// TestAPanicInAnImportIsAnError makes the goroutine of each user panic. Without a recovery
// of its own the process would end.
//
// R105.
func TestAPanicInAnImportIsAnError(t *testing.T) {
	a := New(Config{}) // without an Issuer
	body := strings.NewReader(`{"users":[{"username":"alice"},{"username":"bob"}]}`)
	_, err := withBody(a.importUsers).Handler(httptest.NewRequest("POST", "/admin/v1/users/import", body))
	if err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("got error %v", err)
	}
}

func TestALargeBodyIsAMaxBytesError(t *testing.T) {
	body := `{"audience":"` + strings.Repeat("x", MaxBodyBytes) + `"}`
	_, err := decode[api.Audience](httptest.NewRequest("POST", "/admin/v1/audiences", strings.NewReader(body)))
	if _, ok := err.(*http.MaxBytesError); !ok {
		t.Errorf("got error %v", err)
	}
}

// A client that announces too much is answered before it sends anything.
func TestAnAnnouncedLargeBodyIsNotRead(t *testing.T) {
	sent := &countingReader{}
	r := httptest.NewRequest("POST", "/admin/v1/audiences", sent)
	r.ContentLength = MaxBodyBytes + 1
	if _, err := decode[api.Audience](r); !errors.As(err, new(*http.MaxBytesError)) {
		t.Errorf("got error %v", err)
	}
	if sent.reads != 0 {
		t.Errorf("the body was read %d times", sent.reads)
	}
}

type countingReader struct{ reads int }

func (c *countingReader) Read([]byte) (int, error) {
	c.reads++
	return 0, io.ErrUnexpectedEOF
}

// FuzzQueryNumber checks that no value outside the bounds is returned.
func FuzzQueryNumber(f *testing.F) {
	for _, q := range []string{"", "limit=5", "limit=0", "limit=-1", "limit=1&limit=2", "limit=%zz", "limit=99999999999999999999", "a;b"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		values, err := readQuery(r, []Parameter{pageLimit})
		if err != nil {
			return
		}
		n, err := queryNumber(values, "limit", numbers{fallback: 7, lowest: 1, highest: 10})
		if err == nil && (n < 1 || n > 10) {
			t.Fatalf("%q: %d", query, n)
		}
	})
}
