// Package storage defines the Store: an ordered map of string keys to bytes that changes
// only in serializable transactions. All state of Keymill is in one Store.
//
//	issuer  keystore  audit         records belong to the package that writes them
//	   │       │        │
//	   └───────┴────────┴──▶ Store  View: one consistent state, durable writes only
//	                           │    Update: read, decide and write, all or nothing
//	                           │    Overlay: an Update's writes, counted
//	                           └──▶ storage/bolt
//
// The contract is small, so that bbolt (the default), PostgreSQL and etcd can all keep it
// exactly. Package storagetest has the conformance tests that every store must pass.
//
// # Rules for the functions of transactions
//
// The function of an Update or of a View may run more than once, and in any goroutine. bbolt runs that
// of an Update once. A store on the network runs it on the records that it has, and again if they have changed. So a
// run may see records of different instants. What such a run returns is thrown away, and so is its
// panic: an error or a panic counts only if what the run has read still holds. Only the last run counts.
//
// So the function has no effect except its writes: it assigns to variables outside of it and never
// appends to them or counts in them, it does not report a failure of a test, and it does not sign,
// sleep, log or call the network. An error from the function of an Update writes nothing. To refuse a
// request and still write something, for example that a session has ended, the function assigns the
// refusal to a variable and returns nil. What comes after a View and takes long, such as a signature, can be given to ViewThen:
// a store on the network does it while it waits.
//
// An Update orders nothing except its own reads and writes: it is no barrier, and an empty one waits
// for nothing. In real time Updates are linearizable: one that begins after another has returned sees
// its writes. So does a View.
//
// # Outages
//
// ErrUnavailable and ErrUnknownOutcome are about one call, and a later call can succeed. Status says
// whether the store has ended, so that only a new process can use it again. A caller that repeats calls
// asks Ended.
//
// # Crashes
//
// A crash before Update returns leaves all writes of the function or none. After Update
// has returned nil, all of them are durable. A View never shows a write that a crash could
// still undo.
//
// # Record layout
//
//	meta                     storage    identity of the database, written once
//	keyring                  keystore   the data key, the hash of meta, and the life of the store, sealed under the
//	                                    master key. A restore raises the life; a store without one was never restored
//	manifest manifest/<page> sealed     which records administrators have written
//	moved                    moved      that the store is being moved to another place, or was moved
//	clock                    keystore   the latest decision time, and other clocks
//	issuer                   serve      the issuer with which the store was last served
//	ring/<alg>               keystore   keys that have not stopped signing
//	retired/<alg>/<kid>      keystore   keys that verifiers still need
//	private/<kid>            keystore   sealed private halves
//	certificate/<kid>        keystore   certificates of published keys
//	tombstone/<kid>          keystore   kids that must never be used again
//	audience/<name>          issuer
//	client/<id>              issuer
//	id/<id>                  issuer     whether the id is a client's or a user's
//	gone/<id>                issuer     the last epoch of a removed client or user
//	unblocked/<id>           issuer     when an administrator has unblocked a user
//	origin/<origin>          issuer     how many clients list the web origin
//	user/<id> login/<hash>   issuer     users, and the index from login names to them
//	scheme/<class>           issuer     how many passwords have a hash of this class
//	family/<id> terms/<hash> issuer     sessions, and the terms that they share
//	sessions/…               issuer     index: the sessions of one user and client
//	tally/…                  issuer     how many events of one user and client are in the audit log
//	due/<time>/… denied/…    issuer     work that is due at a time; revoked access tokens
//	refresh/secret/…         issuer     the sealed secrets of refresh tokens
//	verifier/secret/…        verifiers  the sealed secret of the credentials of pinned verifiers
//	verifier/name/<name>     verifiers  pinned verifiers
//	served/<name>            verifiers  what a pinned verifier was served last
//	behind                   verifiers  the spares of which was warned that some lack them
//	epoch                    issuer     a counter; raising it ends every session
//	node/<id>                nodes      what a server of a shared store says of itself
//	lease/<name>             nodes      which server does a job that only one should do
//	webhook/<time>-<random>  issuer     events that the webhook has not delivered yet
//	audit/new/… audit/log/…  audit      records before and after they are chained
//	audit/head               audit      the end of the chain
//
// # Tags
//
// Package sealed adds a tag to every record except meta, keyring and moved, and checks it on every
// read. It stands between a store and the packages that use it, so neither knows about tags.
// The limits below are those of its callers; a store allows MaxTagBytes more for each value.
//
// Sizes are in bytes.
package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Errors of a Store, for errors.Is.
var (
	// ErrNotFound means that there is no record under the key.
	ErrNotFound = errors.New("record not found")
	// ErrLimit means that a key, a value or a transaction is larger than the contract
	// allows, or that a key holds a byte that is not printable ASCII. An Update fails with
	// it if a write or the size of the transaction exceeded a limit, even if the function
	// ignored the error.
	ErrLimit = errors.New("transaction limit exceeded")
	// ErrNoSpace means that the disk is full. Nothing was written, and the same call can
	// succeed once there is space.
	ErrNoSpace = errors.New("no space left for the store")
	// ErrUnavailable means that the engine of the store cannot be reached. Nothing was written, and
	// the same call can succeed later.
	ErrUnavailable = errors.New("the store cannot be reached")
	// ErrMoved means that the store was moved to another place, so that no later call writes here. Such an error matches
	// ErrUnavailable too, because nothing was written. A loop that gets it goes on and logs nothing: the process says once
	// that its store was moved.
	ErrMoved = errors.New("the store was moved to another place")
	// ErrUnknownOutcome means that the commit of this call failed and that its writes may be durable
	// or not. Status says whether the store goes on. bbolt refuses all work from then on. It never
	// matches ErrUnavailable or ErrNoSpace, which mean that nothing was written.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrBroken means that the store's own structure is damaged, below the records: a page of its
	// file contradicts another one, or cannot be read. What a damaged structure shows cannot be
	// trusted, so the store refuses all work from then on, and Status says so.
	ErrBroken = errors.New("the store is damaged")
	// ErrDamaged means that this program cannot have written a record as it is now. Nothing
	// is decided by such a record, and nothing is written over it.
	ErrDamaged = errors.New("damaged")
	// ErrForged is an ErrDamaged of a record whose tag does not fit: it was changed, moved,
	// or written by someone without the master key.
	ErrForged = fmt.Errorf("%w: its tag does not fit, so it was changed, moved or written without the master key", ErrDamaged)
)

// A Store is an ordered map of string keys to bytes that changes only in serializable
// transactions. It is safe for concurrent use.
type Store interface {
	// View gives fn one consistent state that holds only committed and durable writes, in the
	// run of fn that counts. fn may run more than once; the package documentation has the rules
	// for it. View never waits for another node. fn returns within a second, because an open
	// View keeps old pages in use. fn does not call Update.
	View(ctx context.Context, fn func(Reader) error) error

	// Update returns nil only once the writes of fn are durable. fn may run more than
	// once, as that of a View. An error from fn writes nothing and is returned unchanged.
	// A panic of fn is raised again in the caller's goroutine.
	Update(ctx context.Context, fn func(Tx) error) error

	// Status returns how the store is now. It can be called at any time, also after Close, and
	// waits for no transaction.
	Status() Status

	// Close waits for running transactions and releases the store.
	Close() error
}

// Status describes a Store at one moment.
type Status struct {
	Failed error     // why the store refuses all work until the program is started again; nil while it works
	Away   error     // why the engine cannot be reached; nil while it can, and for an engine in this process
	Since  time.Time // since when; zero if Away is nil
	Bytes  int64     // of disk that the store occupies, for metrics; -1 if that is not known
}

// Ended reports whether a loop that got err from s has to end, because s was closed or has failed. After
// any other error the next call can succeed. A loop that ends logs nothing: several get the error, and their
// process says once why it ends.
func Ended(s Store, err error) bool {
	return errors.Is(err, ErrClosed) || err != nil && s.Status().Failed != nil
}

// Join returns the errors of several calls as one, as errors.Join does, and each text once: an outage fails every call of a
// loop in the same way.
func Join(errs ...error) error {
	var kept []error
	for _, err := range errs {
		same := func(other error) bool { return other.Error() == err.Error() }
		if err != nil && !slices.ContainsFunc(kept, same) {
			kept = append(kept, err)
		}
	}
	return errors.Join(kept...)
}

// A Reader reads one consistent state. It returns copies.
type Reader interface {
	// Get returns ErrNotFound if there is no record under key.
	Get(key string) ([]byte, error)
	// GetAll returns the values in the order of keys, nil where there is no record. It
	// takes one round trip.
	GetAll(keys ...string) ([][]byte, error)
	// Scan iterates over start <= key < end in key order. The bounds need not be valid
	// keys: ["p/", "p0") is everything below "p/", because '0' follows '/' in ASCII. An empty
	// end is behind every key. A key that was put below the Store can hold any bytes: the first
	// one that can follow a key is that key with a zero byte behind it. A
	// damaged record is an Entry with only a key and an error that matches ErrDamaged.
	// The Scan continues behind it if the loop does. It ends after any other error, which
	// can come without a key.
	Scan(start, end string) iter.Seq2[Entry, error]
}

// A Tx is a Reader that sees its own writes. A Scan iterates over the records as they are
// when it begins, so its loop may write.
type Tx interface {
	Reader
	// Put copies value.
	Put(key string, value []byte) error
	// Delete returns nil also if there is no record under key.
	Delete(key string) error
}

// An Entry is one record of a Scan.
type Entry struct {
	Key   string
	Value []byte
}
