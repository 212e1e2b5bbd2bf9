package families

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"pgregory.net/rapid"

	"keymill/issuer"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage/bolt"
)

// heartbeat is long, because a simulated day must not take long. It bounds by how much a crash sets
// the clock of the grace back: a heartbeat, and a fifth of one until the loop sees that it is due.
const (
	heartbeat = 5 * time.Minute
	crashCost = heartbeat + heartbeat/5
)

// real is a store with keystore and issuer, connected as in the binary.
type real struct {
	t      *rapid.T
	path   string
	master keystore.MasterKey
	store  *bolt.Store
	keys   *keystore.Rings
	*issuer.Issuer
	end  context.CancelFunc
	loop sync.WaitGroup
}

func newReal(t *rapid.T) *real {
	dir := quickDir(t)
	master, _ := keystore.NewMasterKey()
	r := &real{t: t, path: filepath.Join(dir, "keymill.db"), master: master}
	r.start()
	return r
}

// quickDir returns a directory in memory, if the system has /dev/shm. Other tests show that commits
// are durable.
func quickDir(t *rapid.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "keymill-families-")
	if err != nil {
		dir, err = os.MkdirTemp("", "keymill-families-")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (r *real) start() {
	var err error
	if r.store, err = bolt.Open(r.path, bolt.Options{}); err != nil {
		r.t.Fatal(err)
	}
	cfg := keystore.Config{
		Algorithms: []string{keystore.EdDSA}, RotateEvery: 720 * time.Hour, Propagation: time.Hour,
		MaxAge: 5 * time.Minute, Heartbeat: heartbeat, Master: r.master,
	}
	if _, err := keystore.Create(context.Background(), r.store, cfg, "test", "test"); err != nil && !errors.Is(err, keystore.ErrExists) {
		r.t.Fatal(err)
	}
	if r.keys, err = keystore.Open(context.Background(), r.store, cfg); err != nil {
		r.t.Fatal(err)
	}
	r.Issuer, err = issuer.Open(context.Background(), issuer.Config{
		URL: "https://auth.example.com", Store: r.keys.Store(), Keys: r.keys,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	r.end = end
	r.loop.Go(func() { r.keys.Run(ctx) })
	r.loop.Go(func() { r.Issuer.Run(ctx) })
}

// stop ends the server. If clean is false, it does not write its clock first, as after a crash.
func (r *real) stop(clean bool) {
	if r.store == nil {
		return
	}
	r.end()
	r.loop.Wait()
	if clean {
		if err := r.keys.Close(); err != nil {
			r.t.Error(err)
		}
	}
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	r.store = nil
}

// bytes returns the file of the store. The server must not run.
func (r *real) bytes() []byte {
	b, err := os.ReadFile(r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *real) restore(b []byte) {
	if err := os.WriteFile(r.path, b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// codeOf returns the code of a refusal, "" for nil. Any other error ends the test.
func (r *real) codeOf(err error) string {
	var refused *refusal.Refusal
	if errors.As(err, &refused) {
		return refused.Code
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return ""
}

func (r *real) must(err error) {
	if err != nil {
		r.t.Fatal(err)
	}
}
