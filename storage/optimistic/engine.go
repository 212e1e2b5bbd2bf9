package optimistic

import (
	"context"

	"keymill/storage"
)

// An Engine is the database below a Store. It is safe for concurrent use.
//
// Keys are valid keys of package storage. The bounds of scans and spans can be any bytes, as those
// of a storage.Reader can.
//
// An error that matches storage.ErrUnavailable means that nothing was done and that the same call can
// succeed later. An error that matches storage.ErrUnknownOutcome means that an answer was lost and
// that the Engine could not find out whether the batch was written. Any other error also means that
// nothing was written. A Store passes every error on to the calls concerned.
type Engine interface {
	// Fetch returns the records of one instant, in the order of keys: as many records as keys, with
	// version 0 where there is no record. The keys are sorted and differ. Their number is at most
	// MaxFetchKeys. The values belong to the caller, here and below.
	Fetch(ctx context.Context, keys []string) ([]Record, error)

	// Scan returns the first records of start <= key < end in key order, at most limit, as they are
	// at one instant. An empty end is behind every key.
	Scan(ctx context.Context, start, end string, limit int) ([]Record, error)

	// Commit writes the batch if every read and span of it still holds. It returns the version that all
	// records of the batch then have. It is positive, and no record had it before.
	// The writes are durable, and every later call of any node sees them.
	//
	// If a read or a span does not hold, Commit writes nothing and returns what changed.
	//
	// Calls with the same number of a committer never overlap. Batches with writes come from the
	// committers 0 to Options.Committers−1. Batches of Views come from committer Options.Committers
	// and have no writes. A batch without writes is only compared, with records of one instant that
	// are durable, and it waits for no other batch. Its version has no meaning.
	//
	// The context ends when the first caller no longer waits. The Engine answers then, with storage.ErrUnknownOutcome if it
	// does not know what became of a batch with writes.
	Commit(ctx context.Context, committer int, b *Batch) (version int64, stale *Stale, err error)

	// Exclusive runs fn while no other call, of this node or another one, can write, and then writes
	// what fn returns. The Reader shows the newest records. It is for calls that other nodes have
	// made stale again and again, so it happens rarely and may be slow. The writes are sorted by key.
	// Without writes the version has no meaning. An error of fn writes nothing and is returned.
	// fn may run again if an answer was lost. The committer is one of those with writes.
	//
	// PostgreSQL: in one transaction, first take the lock that every other commit with writes shares.
	Exclusive(ctx context.Context, committer int, fn func(storage.Reader) ([]storage.Write, error)) (version int64, err error)

	// Snapshot runs fn on the records of one instant, once, in the goroutine of the caller. An error
	// of fn is returned unchanged, and a panic of fn passes through. The Reader returns copies, checks
	// keys, and refuses use after the end.
	Snapshot(ctx context.Context, fn func(storage.Reader) error) error

	// Size returns how many bytes the records take up in the database.
	Size(ctx context.Context) (int64, error)

	// Close releases the database. It is called once, and no other call is under way or follows.
	Close() error
}

// A Record is a record as an Engine holds it.
type Record struct {
	Key     string
	Value   []byte // never changed once an Engine has returned it
	Version int64  // 0 means that there is no record under the key
}

// A Span is a range that a function scanned, and the records that were in it.
type Span struct {
	Start, End string   // as in Engine.Scan
	Records    []Record // keys and versions, in key order; the values are nil
}

// A Batch is what a group of calls read and wants to write.
type Batch struct {
	Reads  []Record // keys and versions that must still hold, sorted by key, each key once; the values are nil
	Spans  []Span
	Writes []storage.Write // sorted by key, each key once; perhaps of keys that were not read
}

// Stale is what changed, so that a batch was not written.
type Stale struct {
	// Records are all reads of the batch that do not hold, as they are now. Together with the reads
	// that hold they are of one instant. Perhaps empty, if Spans is true.
	Records []Record
	// Spans reports whether a span changed.
	Spans bool
}

// Bounds of what an Engine is asked at once.
const (
	MaxFetchKeys  = 512 // of one Fetch
	MaxCommitKeys = 512 // distinct keys in the reads, spans and writes of one batch
)
