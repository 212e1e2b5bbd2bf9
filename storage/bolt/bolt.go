// Package bolt is the default Store: one bbolt file, no other server.
//
//	Update ──▶ queue ──▶ one goroutine: fn, fn, fn … ──▶ one commit ──▶ results
//	View   ──▶ newest commit, as soon as it is synced, or the memory of hot records
//
// # Group commit
//
// Callers of Update share commits. The writer goroutine runs every function that waits
// in one bbolt transaction, syncs it, returns the results to all callers and starts again
// at once. It does not wait for more callers: that was measured and was slower at every
// level of concurrency. It yields its processor once before a commit, so that goroutines that
// can run and are about to call join the group, unless others compute for long. On a busy
// machine, fewer and larger commits take about 5 % less processor time for a refresh.
// Each function has its own storage.Overlay, because bbolt has no
// savepoints: a function that fails must neither undo nor repeat the others. The group's
// functions run one after the other, and each sees the writes of those before it. All
// callers get their results after the commit, also those whose function only read, because
// it may have read a write that is not durable yet.
//
// # Sync and visibility
//
// bbolt shows a commit to readers before it is synced. After a failed sync it still
// shows that commit and accepts the next one. So a View waits if it would see a commit that
// is not synced yet. After a failed sync this store refuses all work, because only a new
// process can find out what is on the disk.
//
// # The file
//
// All records are in one bucket named "keymill". A new file is built under the name
// FILE.new-… and then linked to its own name, so a file under that name is never half
// written.
//
// # What a crash leaves behind
//
//	while the file is created     perhaps FILE.new-…, never a partial FILE
//	before the commit             the state before; no caller got a result
//	during or after the commit,   all writes of the group or none of them; no caller
//	before its sync has returned  got a result
//	after the sync                all writes of the group
//
// Open syncs the file before it returns, because a process that was killed between
// commit and sync leaves a state that only the page cache holds.
//
// Neither a View nor the function of an Update may call Update: the function would wait for
// itself, and an open View can block a commit that must map a larger file.
package bolt

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// bucketName is the one bbolt bucket that holds every record. A file without it belongs
// to another program.
const bucketName = "keymill"

// Options configures a Store.
type Options struct {
	// Failed is called once, in its own goroutine, when the outcome of a commit is unknown or
	// the store is damaged. The error matches storage.ErrUnknownOutcome or storage.ErrBroken.
	// The process should end within seconds. It may be nil.
	Failed func(error)

	// Committed is called after each commit, also a failed one, by the goroutine that all
	// writers wait for: how long writing and syncing took, and how many calls shared the
	// commit. It returns at once. It may be nil.
	Committed func(took time.Duration, calls int)

	// Hot says which records most requests read and few change, by their key. Up to 16 MiB of them are kept in
	// memory. Nil means none.
	Hot func(key string) bool
}

// A Store is a storage.Store in one bbolt file.
type Store struct {
	path   string
	opts   Options
	db     *bbolt.DB
	commit func(*bbolt.Tx) error // (*bbolt.Tx).Commit, unless a test injects a failure

	calls      chan *call    // the queue, and behind it the callers that wait to send
	writerDone chan struct{} // closed when the writer goroutine has ended
	yieldAgain time.Time     // when the writer may yield again; only the writer uses it

	memory  memory                        // of hot records
	synced  atomic.Int64                  // newest transaction id that is known to be on disk
	pending atomic.Pointer[pendingCommit] // the commit under way, or the last one
	failed  atomic.Pointer[error]         // an unknown outcome or damage, if there was one
	used    atomic.Int64                  // bytes of pages that hold something, see noteUsed

	follower atomic.Pointer[follower] // gets what is written; nil if there is none

	stop       sync.Once     // closes stopped
	stopped    chan struct{} // closed by Close and by a failure
	unclosable atomic.Bool   // bbolt panicked and kept its lock, so closing it would hang
}

// A pendingCommit is one commit between its start and the end of its sync.
type pendingCommit struct {
	begun time.Time
	done  chan struct{} // closed when the sync has succeeded or failed
}

// A FileStatus describes the file of a Store at one moment, beside storage.Status.
type FileStatus struct {
	FreeBytes int64 // that hold nothing and are used before the file grows, before the last commit; 0 without Options.Committed

	// CommitSince is when the commit under way began; zero if there is none. All writers wait for it, and with
	// a disk that hangs it does not end.
	CommitSince time.Time
}

// Open opens the store in the file at path. The file is created if missing; its
// directory must exist. A file that is truncated, is not a store or is in use by another
// process is an error and is not changed.
func Open(path string, opts Options) (*Store, error) {
	db, txid, err := openOrCreate(path)
	if err != nil {
		return nil, err
	}
	s := makeStore(path, opts, db, txid)
	go s.write(nil)
	return s, nil
}

// ErrReadOnly is returned by the Update of a store that was opened to be read only.
var ErrReadOnly = errors.New("the store is open to be read only")

// OpenReadOnly opens a store that no process writes: one whose server is stopped, or a copy. It
// changes nothing, and needs no permission to write. An Update returns ErrReadOnly. The error of
// OpenReadOnly matches ErrInUse if a server has the file.
func OpenReadOnly(path string) (*Store, error) {
	o := fileOptions()
	o.ReadOnly = true
	db, txid, err := open(path, o)
	if err != nil {
		return nil, err
	}
	s := makeStore(path, Options{}, db, txid)
	close(s.writerDone) // there is none
	return s, nil
}

func makeStore(path string, opts Options, db *bbolt.DB, txid int) *Store {
	s := &Store{
		path:       path,
		opts:       opts,
		db:         db,
		commit:     (*bbolt.Tx).Commit,
		calls:      make(chan *call, maxGroupCalls),
		writerDone: make(chan struct{}),
		stopped:    make(chan struct{}),
		memory:     memory{holds: opts.Hot, state: int64(txid)},
	}
	s.synced.Store(int64(txid))
	return s
}

// View gives fn the newest synced state. fn should return within a second: as long as a
// View is open, bbolt cannot reuse old pages and cannot map the file again to grow it.
func (s *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.memory.holds != nil {
		if err := s.unavailable(); err != nil {
			return err
		}
		r := viewReader{ctx: ctx, store: s}
		err := r.run(fn)
		if r.failed != nil {
			return r.failed
		}
		if !r.mixed {
			return err
		}
	}
	r := viewReader{ctx: ctx, store: s}
	if err := r.begin(); err != nil {
		return err
	}
	return r.run(fn)
}

// beginRead begins a transaction that reads the newest synced state.
func (s *Store) beginRead(ctx context.Context) (tx *bbolt.Tx, err error) {
	if err := s.unavailable(); err != nil {
		return nil, err
	}
	err = s.guard(func() (err error) {
		tx, err = s.begin(false)
		return err
	})
	if errors.Is(err, storage.ErrBroken) {
		return nil, err
	}
	if err != nil {
		return nil, storage.ErrClosed // a mapped file refuses readers for no other reason
	}
	if int64(tx.ID()) <= s.synced.Load() {
		return tx, nil // the usual case
	}
	if err := s.guard(func() error { return s.waitSynced(ctx, int64(tx.ID())) }); err != nil {
		tx.Rollback()
		return nil, err
	}
	return tx, nil
}

// begin begins a transaction of bbolt. It runs within guard or contain. bbolt reads the meta
// pages again: if neither is valid, it panics and keeps its locks, and if the newer one is not,
// it shows an older state. A newer state than this store has written comes from another program.
// waitSynced notices that for a reader, which may see a commit under way.
func (s *Store) begin(write bool) (*bbolt.Tx, error) {
	newest := s.synced.Load()
	panicked := true
	defer func() {
		if panicked {
			s.unclosable.Store(true)
		}
	}()
	tx, err := s.db.Begin(write)
	panicked = false
	if err != nil {
		return nil, err
	}
	shown := int64(tx.ID())
	if write {
		shown-- // the transaction has the next id already
	}
	if shown < newest || write && shown > newest {
		s.unlock(tx)
		return nil, notNewest(shown, newest)
	}
	return tx, nil
}

// notNewest is the error for a state that this store has not written last.
func notNewest(shown, newest int64) error {
	return damaged("the meta pages show transaction %d, and the last one is %d", shown, newest)
}

// waitSynced returns when transaction txid, which bbolt already shows, is on disk.
func (s *Store) waitSynced(ctx context.Context, txid int64) error {
	newest := s.synced.Load()
	if txid <= newest {
		return nil
	}
	// commitGroup stores pending before it commits, so a reader that sees txid also
	// sees the pendingCommit that belongs to it.
	p := s.pending.Load()
	if p == nil {
		return notNewest(txid, newest)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.failed.Load(); err != nil {
		return *err
	}
	if newest = s.synced.Load(); txid > newest {
		return notNewest(txid, newest) // no reader sees a commit that failed without an effect
	}
	return nil
}

// Update runs fn in the next group. A context that ends while the call waits in the queue
// ends the call; after that only the commit decides, because the caller must not be told
// that writes failed which may become durable.
func (s *Store) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.unavailable(); err != nil {
		return err
	}
	if s.db.IsReadOnly() {
		return ErrReadOnly
	}
	c := &call{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case s.calls <- c: // there is room, so that this goroutine need not wait twice
	default:
		select {
		case s.calls <- c:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return s.unavailable()
		}
	}
	select {
	case <-c.done:
		return c.outcome.Return()
	case <-ctx.Done():
		if c.claim() {
			return ctx.Err()
		}
	case <-s.stopped:
		if c.claim() {
			return s.unavailable()
		}
	}
	<-c.done
	return c.outcome.Return()
}

// unavailable returns why the store accepts no work, or nil if it accepts work.
func (s *Store) unavailable() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	select {
	case <-s.stopped:
		return storage.ErrClosed
	default:
		return nil
	}
}

// fail stops the store for good. err is an unknown outcome or damage.
func (s *Store) fail(err error) {
	if !s.failed.CompareAndSwap(nil, &err) {
		return
	}
	s.stop.Do(func() { close(s.stopped) })
	if s.opts.Failed != nil {
		go s.opts.Failed(err)
	}
}

// Close finishes the group under way, refuses the calls behind it with storage.ErrClosed
// and waits for open Views.
func (s *Store) Close() error {
	s.stop.Do(func() { close(s.stopped) })
	<-s.writerDone
	if s.unclosable.Load() {
		return errors.New("store cannot be closed: bbolt panicked and kept its lock")
	}
	return s.db.Close()
}

// Status implements storage.Store. Bytes is the size of the file, holes included.
func (s *Store) Status() storage.Status {
	st := storage.Status{Bytes: s.size()}
	if err := s.failed.Load(); err != nil {
		st.Failed = *err
	}
	return st
}

// FileStatus returns the status of the file. It can be called at any time, also after Close, and waits for no commit.
func (s *Store) FileStatus() FileStatus {
	var st FileStatus
	if used := s.used.Load(); used > 0 {
		st.FreeBytes = max(0, s.size()-used)
	}
	if p := s.pending.Load(); p != nil {
		select {
		case <-p.done:
		default:
			st.CommitSince = p.begun
		}
	}
	return st
}

// size returns the size of the file, or -1 if it is not known.
func (s *Store) size() int64 {
	info, err := os.Stat(s.path)
	if err != nil {
		return -1
	}
	return info.Size()
}
