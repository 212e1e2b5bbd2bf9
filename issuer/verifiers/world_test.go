package verifiers

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

const testURL = "https://id.example.com/.well-known/jwks.json"

var testKeys = keystore.Config{
	Algorithms: []string{"EdDSA"}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute,
	Heartbeat: 20 * time.Minute, // some tests take weeks
}

// A world is a Registry over a real store and real keys.
type world struct {
	*Registry
	t       testing.TB
	path    string
	file    *bolt.Store
	store   *faultyStore
	keys    *keystore.Rings
	keysOf  keystore.Config
	log     slog.Handler
	mu      sync.Mutex
	damaged []error // owned by mu
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOf(t, testKeys)
}

func newWorldOf(t testing.TB, keys keystore.Config) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(quickDir(t), "keymill.db"), keysOf: keys, log: slog.DiscardHandler}
	w.file = must(bolt.Open(w.path, bolt.Options{}))
	must(keystore.Create(t.Context(), w.file, keys, "test", "test"))
	w.openKeys()
	w.open()
	t.Cleanup(func() { w.file.Close() })
	return w
}

// quickDir returns a directory in memory if the system has one: other tests check that commits are durable.
func quickDir(t testing.TB) string {
	if os.Getenv("TMPDIR") != "" {
		return t.TempDir() // chosen by the caller of the tests
	}
	dir, err := os.MkdirTemp("/dev/shm", "keymill-verifiers-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) openKeys() {
	w.t.Helper()
	w.keys = must(keystore.Open(context.Background(), storagetest.RerunningIfAsked(w.file), w.keysOf))
	w.store = &faultyStore{Store: w.keys.Store()}
}

// open opens the Registry again, as the next process does.
func (w *world) open() {
	w.t.Helper()
	r, err := Open(context.Background(), w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.Registry = r
}

func (w *world) config() Config {
	return Config{
		URL: testURL, Store: w.store, Keys: w.keys, MaxAge: w.keysOf.MaxAge, Log: slog.New(w.log),
		Damaged: func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.damaged = append(w.damaged, err)
		},
	}
}

// restart ends the keys and the store, and opens them again.
func (w *world) restart() {
	w.t.Helper()
	w.keys.Close()
	w.file.Close()
	w.reopen()
}

func (w *world) reopen() {
	w.t.Helper()
	w.file = must(bolt.Open(w.path, bolt.Options{}))
	w.openKeys()
	w.open()
}

func (w *world) add(name string) api.Verifier {
	w.t.Helper()
	v, err := w.Add(context.Background(), api.NewVerifier{Name: name}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) verifier(name string) api.Verifier {
	w.t.Helper()
	v, err := w.Verifier(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// set returns the set that is published.
func (w *world) set() *jwks.Set { return setOf(w.keys.Published()) }

func setOf(published []keystore.PublicKey) *jwks.Set {
	var keys []jwks.Key
	for _, k := range published {
		keys = append(keys, jwks.Key{KID: k.KID, Alg: k.Alg, Public: k.Public})
	}
	return must(jwks.NewSet(keys...))
}

// without returns the published set without a key.
func (w *world) without(kid string) *jwks.Set {
	var keys []keystore.PublicKey
	for _, k := range w.keys.Published() {
		if k.KID != kid {
			keys = append(keys, k)
		}
	}
	return setOf(keys)
}

// servedTo notes that a pinned verifier was served a set. Nothing is noted for a name that is not pinned.
func (w *world) servedTo(name string, set *jwks.Set) {
	t := (*w.tags)(name)
	w.ServedPinned(name+"."+string(t[:]), set)
}

// identify returns the name of the pinned verifier with that credential, "" if there is none.
func (w *world) identify(credential string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.holder(credential); p != nil {
		return p.name
	}
	return ""
}

func (w *world) fetch(name string) { w.servedTo(name, w.set()) }

func (w *world) observe(address, agent string) {
	w.Served(Fetch{Address: netip.MustParseAddr(address), Agent: agent, Set: w.set()})
}

// spare returns the kid of the spare.
func (w *world) spare() string {
	w.t.Helper()
	spares := w.spares()
	if len(spares) != 1 {
		w.t.Fatalf("%d spares", len(spares))
	}
	return spares[0].KID
}

// record returns a record; "" if it is missing.
func (w *world) record(key string) (value string) {
	w.t.Helper()
	err := w.keys.Store().View(context.Background(), func(r storage.Reader) error {
		b, err := r.Get(key)
		if value = string(b); errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return value
}

// put writes a record as this program would, "" deletes it.
func (w *world) put(key, value string) {
	w.t.Helper()
	err := w.keys.Store().Update(context.Background(), func(tx storage.Tx) error {
		if value == "" {
			return tx.Delete(key)
		}
		return tx.Put(key, []byte(value))
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func refused(t testing.TB, err error, code string) *refusal.Refusal {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return r
}

var errInjected = errors.New("injected")

// A faultyStore counts Updates, and fails them while it is told to.
type faultyStore struct {
	storage.Store
	mu      sync.Mutex
	failing error
	ended   error // what Status says
	updates int
	meet    func() // called in each Update
}

func (s *faultyStore) during(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meet = fn
}

func (s *faultyStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = err
}

func (s *faultyStore) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
}

func (s *faultyStore) Status() storage.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return storage.Status{Failed: s.ended}
}

func (s *faultyStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updates
}

func (s *faultyStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	s.mu.Lock()
	s.updates++
	err, meet := s.failing, s.meet
	s.mu.Unlock()
	if meet != nil {
		meet()
	}
	if err != nil {
		return err
	}
	return s.Store.Update(ctx, fn)
}

// A logBuffer is a log that a test reads while others write it.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
