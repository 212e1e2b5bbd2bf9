package apply_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/apply"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/endpoint"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/verifiers"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

// A world is a store with keys and the handlers of the admin API, and a directory for files.
type world struct {
	t      *testing.T
	dir    string
	issuer *issuer.Issuer
	store  storage.Store
	server apply.Server
	left   int                 // requests that are answered before errCrash; -1 for all
	refuse bool                // whatever changes an entry, after the server has checked the plan
	asked  func(apply.Request) // sees each request; may be nil
}

var errCrash = errors.New("crash")

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), left: -1}
	file, err := bolt.Open(filepath.Join(w.dir, "keymill.db"), bolt.Options{})
	w.check(err)
	t.Cleanup(func() { file.Close() })
	set := keyset.New(5 * time.Minute)
	cfg := keystore.Config{
		Algorithms: []string{"EdDSA"}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute, Changed: set.Publish,
	}
	_, err = keystore.Create(t.Context(), file, cfg, "test", "test")
	w.check(err)
	keys, err := keystore.Open(t.Context(), file, cfg)
	w.check(err)
	t.Cleanup(func() { keys.Close() })
	w.store = keys.Store()
	quiet := slog.New(slog.DiscardHandler)
	w.issuer, err = issuer.Open(t.Context(), issuer.Config{URL: "https://id.example.com", Store: w.store, Keys: keys, Log: quiet, Admin: true})
	w.check(err)
	known, err := verifiers.Open(t.Context(), verifiers.Config{URL: "https://id.example.com/jwks", Store: w.store, Keys: keys, MaxAge: cfg.MaxAge, Log: quiet})
	w.check(err)
	s, err := endpoint.New(endpoint.Config{
		Issuer: w.issuer, Keys: keys, KeySet: set, Verifiers: known, Applied: &applied.Marks{Store: w.store, Now: keys.Now},
		StoreFailed: func() error { return nil }, StoreBytes: func() int64 { return 0 },
		Backup: func(context.Context, io.Writer, string) error { return nil }, Log: quiet,
	})
	w.check(err)
	handler := apply.ServerOf(s.Admin())
	w.server = func(ctx context.Context, r apply.Request) (apply.Answer, error) {
		if w.left == 0 {
			return apply.Answer{}, errCrash
		}
		w.left--
		if w.asked != nil {
			w.asked(r)
		}
		if w.refuse && r.Body != nil && !strings.Contains(r.Path, "dry_run") {
			return apply.Answer{Status: 400, Body: []byte(`{"code": "invalid_request", "detail": "the test refuses"}`)}, nil
		}
		return handler(admin.WithActor(ctx, "apply"), r)
	}
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write writes a file and returns its path.
func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	w.check(os.MkdirAll(filepath.Dir(path), 0o755))
	w.check(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// plan makes a plan for one file of that text.
func (w *world) plan(text string, prune bool) (*apply.Plan, error) {
	w.t.Helper()
	files, err := apply.Read(nil, w.write("entries.yaml", text))
	if err != nil {
		return nil, err
	}
	return apply.New(w.t.Context(), w.server, files, prune)
}

// mustPlan is plan, and fails the test if there is none.
func (w *world) mustPlan(text string, prune bool) *apply.Plan {
	w.t.Helper()
	p, err := w.plan(text, prune)
	w.check(err)
	return p
}

// apply applies a file of that text, and returns the plan as it is printed.
func (w *world) apply(text string, prune bool) string {
	w.t.Helper()
	p := w.mustPlan(text, prune)
	w.check(p.Run(w.t.Context()))
	return w.printed(p)
}

func (w *world) printed(p *apply.Plan) string {
	w.t.Helper()
	var b strings.Builder
	w.check(p.Print(&b))
	return b.String()
}

// request sends a request that must succeed.
func (w *world) request(method, path string, body any) {
	w.t.Helper()
	answer, err := w.server(w.t.Context(), apply.Request{Method: method, Path: path, Body: body})
	w.check(err)
	if answer.Status >= 300 {
		w.t.Fatalf("%s %s: %s", method, path, answer.Body)
	}
}

// get decodes what the admin API answers, and reports whether it was found.
func (w *world) get(path string, into any) bool {
	w.t.Helper()
	answer, err := w.server(w.t.Context(), apply.Request{Method: "GET", Path: path})
	w.check(err)
	if answer.Status == 404 {
		return false
	}
	w.check(json.Unmarshal(answer.Body, into))
	return true
}

// names returns what the store has: "audience orders", …, and "mark …" for what was applied.
func (w *world) names() []string {
	w.t.Helper()
	var names []string
	w.check(w.store.View(w.t.Context(), func(r storage.Reader) error {
		names = nil
		for _, prefix := range []string{"applied/", "audience/", "client/", "verifier/name/"} {
			for e, err := range r.Scan(prefix, storage.EndOf(prefix)) {
				if err != nil {
					return err
				}
				names = append(names, strings.Replace(e.Key, "applied/", "mark ", 1))
			}
		}
		return nil
	}))
	slices.Sort(names)
	return names
}

// records returns how many records the audit log has.
func (w *world) records() int {
	w.t.Helper()
	p, err := w.issuer.Audit(w.t.Context(), audit.Query{Limit: 1000})
	w.check(err)
	return len(p.Records)
}

// alice adds a user with id 7.
func (w *world) alice() {
	w.t.Helper()
	_, err := w.issuer.AddUser(w.t.Context(), api.NewUser{ID: "7", Name: "alice"}, "uid:0")
	w.check(err)
}
