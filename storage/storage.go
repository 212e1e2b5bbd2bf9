// Package storage is the ground that every room of Keymill stands on: an ordered
// map of string keys to bytes that changes only in serializable transactions.
//
// The contract is small enough to hold on one page, so that bbolt (here, the
// default), PostgreSQL and etcd keep it to the letter; the conformance suite in
// storagetest is its other half. Records belong to the packages that write them:
//
//	meta                     storage    identity of the database, written once
//	clock                    keystore   the highest time seen
//	keyring                  keystore   the data key, wrapped by the master key
//	ring/<alg>               keystore   keys that have not stopped signing
//	retired/<alg>/<kid>      keystore   keys that verifiers still need
//	private/<kid>            keystore   sealed private halves
//	tombstone/<kid>          keystore   revoked kids, for ever
//	audience/<name>          issuer
//	client/<id>              issuer
//	id/<id>                  issuer     what the id stands for: clients and users share it
//	origin/<origin>          issuer     how many clients list the web origin
//	user/<id> login/<hash>   issuer     people, and how their names lead to them
//	scheme/<class>           issuer     how many passwords are hashed in that way
//	family/<id> terms/<hash> issuer     logins, and what they agreed on
//	sessions/…               issuer     the families of one user and client
//	due/<time>/… denied/…    issuer     what to look at when, and revoked access tokens
//	refresh/secret/…         issuer     what seals refresh tokens
//	epoch                    issuer     moved to end every family
//	webhook/<time>-<random>  issuer     an event that the webhook has not delivered yet
//	audit/new/… audit/log/…  audit
//	audit/head               audit      where the log ends
//
// Sizes are in bytes.
package storage

import (
	"context"
	"errors"
	"iter"
)

// Errors of a Store, for errors.Is.
var (
	// ErrNotFound: Get met no record under the key.
	ErrNotFound = errors.New("no such record")
	// ErrLimit: a key, a value or a transaction is larger than the contract allows,
	// or a key holds other bytes. An Update in which a write or its budget met this
	// fails, even if its function goes on as if nothing had happened.
	ErrLimit = errors.New("over the limit of a transaction")
	// ErrNoSpace: the disk is full. Nothing was written, and the same call may
	// succeed once there is room.
	ErrNoSpace = errors.New("no space left for the store")
	// ErrUnknownOutcome: the commit failed in a way that leaves open whether the
	// writes are durable. The store refuses all work from then on.
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// A Store is an ordered map of string keys to bytes that changes only in
// serializable transactions.
type Store interface {
	// View gives fn one consistent state, of committed and durable writes only.
	// It never waits for a peer. fn returns within a second: an open View keeps old
	// pages. It does not call Update.
	View(ctx context.Context, fn func(Reader) error) error

	// Update returns nil only once fn's writes are durable. fn may run more than
	// once (bbolt shares an fsync among callers, others retry on conflict), so it
	// has no effect but its writes: it assigns, never appends, and does not sign,
	// sleep or call the network. An error from fn writes nothing and is returned
	// as it is: what a refusal must leave behind is a value that fn assigns,
	// returning nil. A panic of fn is raised again in the caller's goroutine.
	Update(ctx context.Context, fn func(Tx) error) error

	Close() error
}

// A Reader reads one consistent state. What it returns are copies. The bounds of a
// Scan need not be keys: [p+"/", p+"0") is everything under p, as '0' follows '/'.
type Reader interface {
	Get(key string) ([]byte, error)                 // ErrNotFound
	GetAll(keys ...string) ([][]byte, error)        // one round trip; nil where absent
	Scan(start, end string) iter.Seq2[Entry, error] // half-open [start, end), in key order
}

// A Tx is a Reader that sees its own writes. A Scan goes over the records as they
// are when it begins, so its loop may write.
type Tx interface {
	Reader
	Put(key string, value []byte) error // copies value
	Delete(key string) error            // absent already is no error
}

// An Entry is one record of a Scan.
type Entry struct {
	Key   string
	Value []byte
}
