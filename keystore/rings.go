package keystore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keymill/storage"
)

// Config says how keys live. Durations must satisfy what the configuration promises:
// MaxAge ≥ 1 s, Propagation ≥ 2 × MaxAge, RotateEvery ≥ 2 × Propagation.
type Config struct {
	Algorithms  []string      // rings to keep: "RS256", "EdDSA"
	RotateEvery time.Duration // a key signs that long
	Propagation time.Duration // a key is published that long before it signs
	MaxAge      time.Duration // how long caches keep the set
	Heartbeat   time.Duration // how often the clock record is written; 0 means 5 s
	Master      MasterKey
	Dev         bool // the store is, or becomes, one of serve --dev

	// Changed is given each published set, in order; the first during Open. It must be quick.
	Changed func([]PublicKey)
	Log     *slog.Logger // of background loops; nil discards
}

// Rings holds the keys of every algorithm. Its methods may be called at once from many
// goroutines.
type Rings struct {
	cfg    Config
	policy policy
	store  storage.Store
	vault  *Vault
	log    *slog.Logger
	queues map[string]*queue // alg → who may sign; never changes
	wall   func() time.Time  // time.Now, except in simulations of a wall clock that steps
	began  time.Time         // with its monotonic reading
	served time.Duration     // by earlier processes

	view  atomic.Pointer[view]
	clock atomic.Pointer[clock]
	gate  sync.RWMutex // held while Stop moves to the present
	wake  chan struct{}
	mint  chan struct{}

	// mu is held by whoever changes rings, from reading them to the new view. It owns
	// what follows.
	mu       sync.Mutex
	record   clockRecord
	stale    bool          // the view may lack what is committed
	lastBeat time.Duration // uptime
	slept    time.Duration // by the machine since it booted, as far as the clock knows
}

// A view is what is committed, ready for use. It is never changed, only replaced.
type view struct {
	rings     map[string]ring    // alg → ring
	retired   []Key              // of every ring, configured or not
	signers   map[string]*signer // kid → private half, of spare and active keys
	published []PublicKey
}

// Open reads the keys of s, or makes the first ones if s is empty. It returns once every
// ring has a published key. Run must be called for anything to happen afterwards.
func Open(ctx context.Context, s storage.Store, cfg Config) (*Rings, error) {
	return open(ctx, s, cfg, time.Now)
}

func open(ctx context.Context, s storage.Store, cfg Config, wall func() time.Time) (*Rings, error) {
	for _, alg := range cfg.Algorithms {
		if alg != RS256 && alg != EdDSA {
			return nil, fmt.Errorf("no ring signs with %q; RS256 and EdDSA do", alg)
		}
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	r := &Rings{
		cfg: cfg, store: s, log: cfg.Log, wall: wall, began: time.Now(), slept: slept(),
		queues: make(map[string]*queue), wake: make(chan struct{}, 1), mint: make(chan struct{}, 1),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, alg := range cfg.Algorithms {
		r.queues[alg] = newQueue(runtime.GOMAXPROCS(0))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	vault, err := openVault(ctx, s, cfg, wall())
	if err != nil {
		return nil, err
	}
	r.vault = vault
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// start brings the store's keys up to now: the clock first, then what the downtime did to
// the schedule, then the keys that are missing.
func (r *Rings) start(ctx context.Context) error {
	if err := r.startRecord(ctx); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	r.view.Store(&view{})
	if err := r.reload(ctx); err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if err := r.resume(ctx, r.record.Highest); err != nil {
		return fmt.Errorf("resume schedule: %w", err)
	}
	if err := r.makeMissing(ctx); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	return r.beat(ctx, *r.clock.Load())
}

func (r *Rings) startRecord(ctx context.Context) error {
	err := r.store.View(ctx, func(tx storage.Reader) error {
		_, err := getJSON(tx, clockKey, &r.record)
		return err
	})
	r.served = r.record.Served
	c := startClock(r.record, r.reading())
	r.clock.Store(&c)
	if r.record.Highest.IsZero() {
		r.record.Highest = c.now
	}
	if c.frozen {
		r.log.Error(alarm, "offset", c.offset.Round(time.Second))
	}
	if r.record.MaxAge > r.cfg.MaxAge {
		// The old set may have been served until a heartbeat after the record.
		r.record.Hold = latest(r.record.Hold, r.record.Highest.Add(r.cfg.Heartbeat+r.record.MaxAge))
	}
	r.record.MaxAge = r.cfg.MaxAge
	r.policy = policy{
		rotateEvery: r.cfg.RotateEvery, propagation: r.cfg.Propagation,
		maxAge: r.cfg.MaxAge, hold: r.record.Hold,
	}
	return err
}

// Reload makes what other rooms committed (a raised cap) count here.
func (r *Rings) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reload(ctx)
}

// reload replaces the view by what is committed. Private halves that are known already
// are kept, those of keys that stopped are let go.
func (r *Rings) reload(ctx context.Context) error {
	r.stale = true
	old, now := r.view.Load(), r.Now()
	next := &view{rings: make(map[string]ring), signers: make(map[string]*signer)}
	for _, alg := range Known() {
		keys, err := retired(ctx, r.store, alg)
		if err != nil {
			return err
		}
		next.retired = append(next.retired, keys...)
	}
	sealed := make(map[string][]byte) // kid → sealed private half
	err := r.store.View(ctx, func(tx storage.Reader) error {
		for _, alg := range Known() {
			ring, err := getRing(tx, alg)
			if err != nil {
				return err
			}
			next.rings[alg] = ring
			for _, k := range ring.Keys {
				if k.Stage(now) == Reserve {
					continue
				}
				if s := old.signers[k.KID]; s != nil {
					next.signers[k.KID] = s
				} else if sealed[k.KID], err = tx.Get(privateKey(k.KID)); err != nil {
					return fmt.Errorf("private half of %s: %w", k.KID, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := errors.Join(r.load(next, sealed), r.publish(old, next, now)); err != nil {
		return err
	}
	r.stale = false
	return nil
}

// load opens the private halves that next lacks.
func (r *Rings) load(next *view, sealed map[string][]byte) error {
	for _, ring := range next.rings {
		for _, k := range ring.Keys {
			if sealed[k.KID] == nil {
				continue
			}
			s, err := r.openPrivate(k, sealed[k.KID])
			if err != nil {
				return fmt.Errorf("private half of %s: %w", k.KID, err)
			}
			next.signers[k.KID] = s
		}
	}
	return nil
}

func (r *Rings) openPrivate(k Key, sealed []byte) (*signer, error) {
	der, err := r.vault.Open(privateKey(k.KID), sealed)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := parsePrivate(der)
	if err != nil {
		return nil, err
	}
	return newSigner(key, k.Alg, k.KID)
}

// publish makes next the view, and tells about the set if it is another one.
func (r *Rings) publish(old, next *view, now time.Time) error {
	slices.SortFunc(next.retired, byPublish)
	keys := slices.Clone(next.retired)
	for _, ring := range next.rings {
		for _, k := range ring.Keys {
			if k.Stage(now) != Reserve {
				keys = append(keys, k)
			}
		}
	}
	slices.SortStableFunc(keys, byPublish)
	for _, k := range keys {
		public, err := parsePublic(k.Public)
		if err != nil {
			return fmt.Errorf("public half of %s: %w", k.KID, err)
		}
		next.published = append(next.published, PublicKey{KID: k.KID, Alg: k.Alg, Public: public})
	}
	r.view.Store(next)
	same := slices.EqualFunc(old.published, next.published, func(a, b PublicKey) bool { return a.KID == b.KID })
	if r.cfg.Changed != nil && !same {
		r.cfg.Changed(slices.Clone(next.published))
	}
	return nil
}

func byPublish(a, b Key) int {
	return cmp.Or(a.Publish.Compare(b.Publish), cmp.Compare(a.KID, b.KID))
}

// Published returns the keys of the set, in the order in which they were published.
func (r *Rings) Published() []PublicKey { return slices.Clone(r.view.Load().published) }

// Algorithms returns the algorithms that sign, as configured.
func (r *Rings) Algorithms() []string { return slices.Clone(r.cfg.Algorithms) }

// Vault seals secrets of other rooms under the same data key.
func (r *Rings) Vault() *Vault { return r.vault }

// List returns every key that is not gone, ring by ring, in the order of their lives.
func (r *Rings) List(context.Context) ([]KeyInfo, error) {
	v, now := r.view.Load(), r.Now()
	var out []KeyInfo
	for _, alg := range Known() {
		for _, k := range v.retired {
			if k.Alg == alg {
				info := k.info(now, 0)
				info.Stage = Retiring // the clock of erasures may be behind
				out = append(out, info)
			}
		}
		for _, k := range v.rings[alg].Keys {
			out = append(out, k.info(now, r.policy.skew()))
		}
	}
	return out, nil
}

// RaiseCap makes the keys of alg outlive tokens of lifetime, in the caller's transaction.
// Sign knows after Reload. A cap never falls.
func (r *Rings) RaiseCap(tx storage.Tx, alg string, lifetime time.Duration) error {
	ring, err := getRing(tx, alg)
	if err != nil {
		return err
	}
	if lifetime <= ring.Cap {
		return nil
	}
	ring.Cap = lifetime
	for i := range ring.Keys {
		ring.Keys[i].Cap = max(ring.Keys[i].Cap, lifetime)
	}
	return putRing(tx, ring)
}
