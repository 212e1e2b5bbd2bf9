package bolt

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// bucketName is the one bbolt bucket that holds every record. A file without it
// is somebody else's.
const bucketName = "keymill"

// Options say how a Store behaves.
type Options struct {
	// Failed is called once, from another goroutine, after an unknown outcome; the
	// process should end within seconds. Nil is allowed.
	Failed func(error)
}

// A Store is a storage.Store in one file, and the default: no other server is needed.
//
//	Update ──▶ queue ──▶ one goroutine: fn, fn, fn … ──▶ one commit ──▶ answers
//	View   ──▶ newest commit, once that is synced
//
// Callers of Update share commits: the goroutine runs whatever waits in one bbolt
// transaction, syncs it, answers everybody, and starts again at once. Waiting for
// more company was measured, and loses at every concurrency.
//
// bbolt shows a commit to readers before it is synced, and after a failed sync it
// goes on showing it and takes the next one. So a View of a commit that is not
// synced yet waits for the sync and shares its fate, and after a failed one this
// store refuses everything.
//
// Neither a View nor the fn of an Update may call Update: the fn would wait for
// itself, and the View can stand in the way of a file that has to grow.
type Store struct {
	path   string
	opts   Options
	db     *bbolt.DB
	commit func(*bbolt.Tx) error // bbolt's own, unless a test injects a failure

	calls chan *call    // unbuffered: the queue is the callers who wait to send
	idle  chan struct{} // closed when the goroutine has ended

	synced  atomic.Int64           // newest transaction id known to be on disk
	pending atomic.Pointer[flight] // the commit under way, or the last one
	failed  atomic.Pointer[error]  // the unknown outcome

	stop    sync.Once
	stopped chan struct{} // closed by Close and by an unknown outcome
	stuck   atomic.Bool   // bbolt panicked and kept its lock; it can no longer be closed
}

// A flight is one commit between its start and the end of its sync.
type flight struct {
	landed chan struct{}
}

// Status is what a Store tells of itself.
type Status struct {
	Failed error // the unknown outcome, if there was one
	Bytes  int64 // size of the file, holes included
}

// Open opens the store in the file at path, and makes it if there is none; its
// directory must exist. A file that is cut off, is not a store or is in use by
// another process is an error, and stays as it is.
func Open(path string, opts Options) (*Store, error) {
	db, txid, err := openOrCreate(path)
	if err != nil {
		return nil, err
	}
	b := &Store{
		path:    path,
		opts:    opts,
		db:      db,
		commit:  (*bbolt.Tx).Commit,
		calls:   make(chan *call),
		idle:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	b.synced.Store(int64(txid))
	go b.run(nil)
	return b, nil
}

// View gives fn the newest synced state. fn should return within a second, as an
// open View keeps old pages from reuse and the file from being mapped anew.
func (b *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.refusal(); err != nil {
		return err
	}
	tx, err := b.db.Begin(false)
	if err != nil {
		return storage.ErrClosed // the only way a mapped file refuses a reader
	}
	defer tx.Rollback()
	if err := b.await(ctx, tx.ID()); err != nil {
		return err
	}
	r := viewReader{bucket: tx.Bucket([]byte(bucketName))}
	defer func() { r.bucket = nil }()
	return fn(&r)
}

// await returns once transaction txid, which bbolt shows already, is synced.
func (b *Store) await(ctx context.Context, txid int) error {
	for int64(txid) > b.synced.Load() {
		select {
		case <-b.pending.Load().landed:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := b.failed.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// Update runs fn in the next group.
func (b *Store) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.refusal(); err != nil {
		return err
	}
	c := &call{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case b.calls <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.stopped:
		return b.refusal()
	}
	// Its turn has come: from here only the commit can tell what became of it.
	<-c.done
	return c.outcome()
}

// refusal tells why the store takes no more work, if it does not.
func (b *Store) refusal() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	select {
	case <-b.stopped:
		return storage.ErrClosed
	default:
		return nil
	}
}

// fail is the end of the store: err is an unknown outcome.
func (b *Store) fail(err error) {
	if !b.failed.CompareAndSwap(nil, &err) {
		return
	}
	b.stop.Do(func() { close(b.stopped) })
	if b.opts.Failed != nil {
		go b.opts.Failed(err)
	}
}

// Close lets the group under way finish, refuses what waits behind it with
// storage.ErrClosed, and waits for open Views.
func (b *Store) Close() error {
	b.stop.Do(func() { close(b.stopped) })
	<-b.idle
	if b.stuck.Load() {
		return errors.New("store cannot be closed: a commit broke off")
	}
	return b.db.Close()
}

// Status may be asked for at any time.
func (b *Store) Status() Status {
	var s Status
	if err := b.failed.Load(); err != nil {
		s.Failed = *err
	}
	if info, err := os.Stat(b.path); err == nil {
		s.Bytes = info.Size()
	}
	return s
}
