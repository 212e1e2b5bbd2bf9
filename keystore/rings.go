package keystore

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keymill/keystore/internal/cert"
	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/keyring"
	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/libcrypto"
	"keymill/keystore/internal/schedule"
	"keymill/keystore/internal/signing"
	"keymill/keystore/internal/vault"
	"keymill/storage"
	"keymill/storage/nodes"
	"keymill/storage/sealed"
)

// Config configures Rings. The caller has checked that MaxAge is at least a second,
// Propagation at least twice MaxAge and RotateEvery at least twice Propagation.
type Config struct {
	Algorithms  []string      // one ring for each, of SupportedAlgorithms
	RotateEvery time.Duration // how long a key signs
	Propagation time.Duration // how long a key is published before it signs
	MaxAge      time.Duration // how long caches keep the set
	Heartbeat   time.Duration // how often the clock record is written; 0 means 5 s
	Master      MasterKey     // seals the data key
	Dev         bool          // the store is a store of serve --dev

	// RSASigner is the setting keys.rsa: "go", "libcrypto" or "auto". "" is "go". CheckRSASigner has accepted it.
	RSASigner string
	// Libcrypto is the file of the library; "" means that of the system. Only tests set it.
	Libcrypto string

	// CheckRSA refuses weak RSA keys, which Import would store. It is jwks.CheckRSA: this package
	// cannot import jwks, because that links net/http. Without it RSA keys cannot be imported.
	CheckRSA func(key *rsa.PublicKey, others ...*rsa.PublicKey) error

	// Mark shows that the store is an older copy, see package sealed. It may be nil.
	Mark *sealed.Mark
	// AcceptOlder is the Token of an *OlderStoreError. Open then accepts the older store, and
	// calls Accepted in the transaction that does so, which ends all sessions.
	AcceptOlder string
	Accepted    func(tx storage.Tx, decision, wall time.Time) error // decision is Rings.Now, wall is Rings.WallTime
	// RevokedFile is the path of the file that lists revoked keys for a restore; "" for none. Epoch reads
	// the epoch of all sessions, which is listed too; it may be nil.
	RevokedFile string
	Epoch       func(storage.Reader) (uint64, error)
	// Check is called with the store as Store returns it, before anything is written. It may be nil.
	Check func(ctx context.Context, s storage.Store) error
	// Progress is called while Open ends a change of the master key.
	Progress Progress
	// KeepOldTags leaves the end of such a change to the next Open. It is for a program that does
	// not serve.
	KeepOldTags bool

	// Nodes are the servers of a store that several servers share. It is nil for a store with one server.
	Nodes *nodes.Registry

	// Changed is called with each set that is published, in order and first during Open. It
	// must return at once, because it runs while the keys are locked. It may be nil.
	Changed func([]PublicKey)
	Log     *slog.Logger // for background loops; nil discards
}

// Rings holds the keys of every algorithm. It is safe for concurrent use.
type Rings struct {
	cfg          Config
	rules        atomic.Pointer[policy]
	store        *sealed.Store
	vault        *vault.Vault
	unlocked     *keyring.Unlocked
	database     string // id of the store
	log          *slog.Logger
	rsa          *libcrypto.Chooser
	queues       map[string]*signing.Queue // alg → its signing queue, for configured algorithms; never changes
	wallClock    func() time.Time          // time.Now, except in simulations of a wrong wall clock
	began        time.Time                 // start of the process, with its monotonic reading
	servedBefore time.Duration             // served time of earlier processes, as Open has read it
	age          age                       // what Open found out

	certificates *cert.Book            // of published keys; mu guards it
	fault        atomic.Pointer[error] // damage that stopped the last maintenance, or nil
	listed       time.Time             // of the last file of revoked keys; mu owns it
	listedFrom   listing               // what was known when that file was written because of another server; mu owns it
	revokedFault atomic.Pointer[error] // why the file of revoked keys could not be written, or nil

	snapshot    atomic.Pointer[snapshot]
	clock       atomic.Pointer[clock.Clock]
	wake        chan struct{} // to Run's loop: something may be due
	needReserve chan struct{} // to reserveLoop: a ring may have no reserve

	sleptBefore time.Duration         // suspensions of the machine before the start of the process
	sleep       clock.Sleep           // suspensions of the machine, for awake
	lastRead    atomic.Int64          // when the last successful poll began, as awake returns it, plus 1; 0 before it
	met         atomic.Int64          // uptime at which meet last began to read successfully
	wrongClock  atomic.Pointer[error] // why the wall clock cannot be trusted beside those of other nodes, or nil
	settled     atomic.Int64          // until when nothing is signed after a time without reading, as awake returns it

	// mu is held by every change of the rings, from reading them until the new snapshot is
	// in place. It guards the fields below.
	mu           sync.Mutex
	clockRecord  clock.Record
	clockStored  bool          // the store has a clock record, unless that was lost since
	looked       error         // what the last look at the records of the keys has found
	stale        bool          // the snapshot may not have everything that is committed
	clockWritten time.Duration // uptime at which the clock record was last written
	markFailed   bool          // the last write of the mark failed
	seen         sight         // what the last successful poll has found
	slept        time.Duration // suspensions of the machine since it booted, as far as the clock counts them

	// signing is held by a change that sets a Stop time to now, until the new snapshot is in
	// place. Signers hold it for reading while they choose a key. It is taken after mu.
	signing sync.RWMutex
}

// A snapshot is the committed keys, prepared for use. It is never changed, only replaced, so
// readers need no lock.
type snapshot struct {
	rings     map[string]ring            // alg → ring
	retired   []Key                      // of every ring, configured or not
	signers   map[string]*signing.Signer // kid → private half of spare and active keys
	published []PublicKey                // in the order of publication
}

// Open reads the keys of s, which Create has made a store, and makes those that are missing. When
// it returns, every ring has a published key. Rotation, erasure and new keys need Run. The error
// is ErrNoRecords if s is empty.
func Open(ctx context.Context, s storage.Store, cfg Config) (*Rings, error) {
	return open(ctx, s, cfg, time.Now)
}

// open is Open with another wall clock.
func open(ctx context.Context, s storage.Store, cfg Config, wallClock func() time.Time) (*Rings, error) {
	for _, alg := range cfg.Algorithms {
		if err := keytype.Check(alg); err != nil {
			return nil, err
		}
	}
	if err := checkWallClock(wallClock()); err != nil {
		return nil, err
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	if p := cfg.Nodes.Poll(); p > 0 {
		cfg.Heartbeat = min(cfg.Heartbeat, p)
	}
	r := &Rings{
		cfg: cfg, log: cfg.Log, wallClock: wallClock, began: time.Now(), slept: clock.Suspended(), sleptBefore: clock.Suspended(),
		queues: make(map[string]*signing.Queue), wake: make(chan struct{}, 1), needReserve: make(chan struct{}, 1),
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, alg := range cfg.Algorithms {
		r.queues[alg] = signing.NewQueue(runtime.GOMAXPROCS(0))
	}
	var err error
	if r.rsa, err = r.chooseRSA(ctx); err != nil {
		return nil, err
	}
	if signs := func() bool { return r.rsa.Status().Signer == libcrypto.Libcrypto }; signs() {
		// A call of C leaves its processor of Go to others, so with one call for each a core has nothing to do between two. While
		// the line is short, one further call is enough: with more of them the kernel interrupts more in the middle, each for some
		// milliseconds.
		r.queues[RS256] = signing.NewQueueOutside(runtime.GOMAXPROCS(0)+1, signs)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	u, err := unlockFor(ctx, s, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Nodes != nil {
		u.Share()
	}
	r.store, r.database, r.vault, r.unlocked = u.Store, u.Database, u.Vault, u
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	if !cfg.KeepOldTags {
		if err := (MasterKeyChange{Old: cfg.Master, Mark: cfg.Mark, Progress: cfg.Progress}).Finish(ctx, u); err != nil {
			return nil, fmt.Errorf("end the change of the master key: %w", err)
		}
	}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.leave(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// check finds out, before anything is written, whether this is the store that was served last and
// whether it is whole.
func (r *Rings) check(ctx context.Context) error {
	if err := r.store.CheckManifest(ctx); err != nil {
		return err
	}
	if err := r.startClock(ctx); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	if err := r.checkAge(ctx); err != nil {
		return err
	}
	if r.cfg.Check == nil {
		return nil
	}
	return r.cfg.Check(ctx, r.store)
}

// start brings the keys of the store up to date. The order matters: the clock was read first,
// now the downtime since its record is accounted for, and only then can a key be due or
// missing. A crash between two steps is safe, because each is one transaction or repeats
// itself at the next start.
func (r *Rings) start(ctx context.Context) error {
	if err := r.acceptAge(ctx); err != nil {
		return fmt.Errorf("accept the store: %w", err)
	}
	r.snapshot.Store(&snapshot{})
	if err := r.join(ctx); err != nil {
		return err
	}
	var err error
	if r.certificates, err = cert.Load(ctx, r.store); err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	if err := r.reload(ctx); err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if err := r.checkLifetimes(func(alg string) time.Duration { return r.snapshot.Load().rings[alg].MaxLifetime }); err != nil {
		return err
	}
	if !r.cfg.Nodes.OthersServe() { // else another node has served the set
		if err := r.reschedule(ctx, r.clockRecord.Highest, r.Now()); err != nil {
			return fmt.Errorf("reschedule after downtime: %w", err)
		}
	}
	if err := r.stopUnconfigured(ctx); err != nil {
		return fmt.Errorf("stop rings that are not configured: %w", err)
	}
	if err := r.reload(ctx); err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	if err := r.makeMissing(ctx); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	if err := r.keepCertificates(ctx); err != nil {
		return err
	}
	if err := r.reportNoMark(ctx); err != nil {
		return err
	}
	r.writeRevoked(ctx)
	return errors.Join(r.writeClock(ctx, *r.clock.Load()), r.meet(ctx))
}

// startClock reads the clock record, and continues the clock and the policy from it.
func (r *Rings) startClock(ctx context.Context) error {
	err := r.store.View(ctx, func(tx storage.Reader) error {
		var rec clock.Record
		found, err := getJSON(tx, clockKey, &rec)
		if err != nil {
			return err
		}
		r.clockRecord, r.clockStored = rec, found
		return r.checkClock(tx, found)
	})
	if err != nil {
		return err
	}
	r.servedBefore, r.age.highest = r.clockRecord.ServedTime, r.clockRecord.Highest
	c := clock.New(r.clockRecord, r.readClocks())
	r.clock.Store(&c)
	if r.clockRecord.Highest.IsZero() {
		r.clockRecord.Highest = c.DecisionAt(c.Up)
	}
	if c.Frozen {
		r.log.Error(clockJumped, "offset", c.Offset.Round(time.Second))
	}
	if r.clockRecord.MaxAge > r.cfg.MaxAge {
		// Before a crash the set may have been served with the longer max-age until one
		// heartbeat after the record was written.
		r.clockRecord.OldCachesUntil = schedule.Latest(r.clockRecord.OldCachesUntil, r.clockRecord.Highest.Add(r.cfg.Heartbeat+r.clockRecord.MaxAge))
	}
	r.clockRecord.MaxAge = r.cfg.MaxAge
	r.rules.Store(&policy{
		RotateEvery: r.cfg.RotateEvery, Propagation: r.cfg.Propagation,
		MaxAge: r.cfg.MaxAge, OldCachesUntil: r.clockRecord.OldCachesUntil,
		Lead: r.cfg.Nodes.Lead(), NodeSkew: r.cfg.Nodes.Skew(),
	})
	return nil
}

// policy returns what the schedule depends on.
func (r *Rings) policy() policy { return *r.rules.Load() }

// publish completes next and makes it the snapshot.
func (r *Rings) publish(next *snapshot, now time.Time) error {
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
		public, err := keytype.ParsePublic(k.Public)
		if err == nil {
			err = k.Belongs(public, nil)
		}
		if err != nil {
			record := ringKey(k.Alg)
			if next.rings[k.Alg].Index(k.KID) < 0 {
				record = retiredKey(k.Alg, k.KID)
			}
			next.erase(r.snapshot.Load())
			return storage.Damaged(record, "%s", err)
		}
		der := r.certificates.Of(cert.Key{KID: k.KID, Public: k.Public, Published: k.Publish, Private: next.signers[k.KID].Private()})
		next.published = append(next.published, PublicKey{KID: k.KID, Alg: k.Alg, Public: public, Certificate: der, Imported: k.Imported})
	}
	r.replace(r.snapshot.Load(), next)
	r.stale = false
	return nil
}

// replace makes next the snapshot, and calls Changed if its set differs from the old one.
func (r *Rings) replace(old, next *snapshot) {
	r.snapshot.Store(next)
	old.erase(next)
	same := slices.EqualFunc(old.published, next.published, func(a, b PublicKey) bool { return a.KID == b.KID })
	if r.cfg.Changed != nil && !same {
		r.cfg.Changed(slices.Clone(next.published))
	}
}

func byPublish(a, b Key) int {
	return cmp.Or(a.Publish.Compare(b.Publish), cmp.Compare(a.KID, b.KID))
}

// Published returns the published set, in the order of publication.
func (r *Rings) Published() []PublicKey { return slices.Clone(r.snapshot.Load().published) }

// keepCertificates stores what Published returns, for the time after the private halves are erased.
func (r *Rings) keepCertificates(ctx context.Context) error {
	err := r.certificates.Keep(ctx, r.store, func(kid string) bool {
		return slices.ContainsFunc(r.snapshot.Load().published, func(k PublicKey) bool { return k.KID == kid })
	})
	if err != nil {
		return fmt.Errorf("store certificates: %w", err)
	}
	return nil
}

// Algorithms returns the configured algorithms.
func (r *Rings) Algorithms() []string { return slices.Clone(r.cfg.Algorithms) }

// Poll returns p, how often the servers of a shared store read what the others have written; 0 for a store with one server.
func (r *Rings) Poll() time.Duration { return r.cfg.Nodes.Poll() }

// Store returns the store with its tags checked. Every package uses this one.
func (r *Rings) Store() storage.Store { return r.store }

// Damaged returns the records that were found damaged and have not been found whole since, in key
// order and at most 1,000 of a kind.
func (r *Rings) Damaged() []*storage.DamageError { return r.store.Damaged() }

// DatabaseID returns the id of the store: 16 bytes in hex.
func (r *Rings) DatabaseID() string { return r.database }

// A Vault seals small secrets under the data key of the store.
type Vault = vault.Vault

// Vault returns the vault of the store, which also seals secrets of other packages.
func (r *Rings) Vault() *Vault { return r.vault }

// List returns every key that is not gone, ring by ring, in the order in which they sign.
func (r *Rings) List(context.Context) ([]KeyInfo, error) {
	snap, now := r.snapshot.Load(), r.Now()
	var out []KeyInfo
	for _, alg := range SupportedAlgorithms() {
		for _, k := range snap.retired {
			if k.Alg == alg {
				info := infoOf(k, now, 0)
				info.Stage = Retiring // also after Drop, until the erasure time reaches it
				out = append(out, info)
			}
		}
		for _, k := range snap.rings[alg].Keys {
			out = append(out, infoOf(k, now, r.policy().Linger()))
		}
	}
	return out, nil
}

// RaiseMaxLifetime raises the maximum token lifetime of alg in the caller's transaction, so
// that keys stay published until such tokens have expired. A lower lifetime changes nothing. With one
// that is too long for keys.rotate_every the published set would become too large: it is refused.
// The caller must call Reload after the commit; until then Sign refuses tokens with the
// longer lifetime.
func (r *Rings) RaiseMaxLifetime(tx storage.Tx, alg string, lifetime time.Duration) error {
	ring, err := getRing(tx, alg)
	if err != nil {
		return err
	}
	if lifetime <= ring.MaxLifetime {
		return nil
	}
	err = r.checkLifetimes(func(other string) time.Duration {
		if other == alg {
			return lifetime
		}
		return r.snapshot.Load().rings[other].MaxLifetime
	})
	if err != nil {
		return err
	}
	ring.MaxLifetime = lifetime
	if err := r.checkRoom(r.Now(), ring); err != nil {
		return err
	}
	for i := range ring.Keys {
		ring.Keys[i].MaxLifetime = max(ring.Keys[i].MaxLifetime, lifetime)
	}
	return putRing(tx, ring)
}
