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

// heartbeat is slow, because a simulated day has to be short. It bounds what a crash takes
// from the clock of the grace: one heartbeat, and the fifth of one that passes until
// somebody looks.
const (
	heartbeat = 5 * time.Minute
	crashCost = heartbeat + heartbeat/5
)

// The real thing: one store, and the rooms above it as the binary wires them.
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

// quickDir is in memory where the system has such a place: whether commits survive a power
// cut is tested elsewhere.
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
	r.keys, err = keystore.Open(context.Background(), r.store, keystore.Config{
		Algorithms: []string{keystore.EdDSA}, RotateEvery: 720 * time.Hour, Propagation: time.Hour,
		MaxAge: 5 * time.Minute, Heartbeat: heartbeat, Master: r.master,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Issuer, err = issuer.Open(context.Background(), issuer.Config{
		URL: "https://auth.example.com", Store: r.store, Keys: r.keys,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	r.end = end
	r.loop.Go(func() { r.keys.Run(ctx) })
	r.loop.Go(func() { r.Issuer.Run(ctx) })
}

// stop ends the server, with its last words or without.
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

// bytes is the store as it lies on the disk. The server must not run.
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

// codeOf is the code of a refusal, "" for none. Anything else ends the test.
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
