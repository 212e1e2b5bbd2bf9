// Package audit keeps a log of decisions: what was decided, by whom and when. The log is in
// the order of the decisions, and a later change of the log can be detected.
//
// A decision appends its record in its own transaction, so one is never stored without
// the other. The log is a hash chain. If every decision appended to the chain itself, all
// decisions would wait for each other. So each new record is first stored under its own key,
// and once a second a background loop appends the new records to the chain:
//
//	decision ──▶ audit/new/<time>-<random>
//	                        │  Chain, once a second
//	                        ▼
//	             audit/log/<seq>   …  n−1 ◀── n ◀── n+1   each with the hash of the one before
//	             audit/head        seq and hash of the last record
//	             audit/written     seq of the last record that was written outside of the store
//
//	<time>    time of the decision, 20060102T150405.000000000Z
//	<random>  16 hex digits
//	<seq>     20 decimal digits, from 1
//
// A stored record is one line of JSON in printable ASCII. Clients choose some of its
// strings, and their line breaks and terminal sequences are stored escaped. Long strings
// are cut, so a record stays below 4 KiB. The hash is the hexadecimal SHA-256 of the
// stored bytes. In the first record the hash of the record before it is 64 zeros.
//
// The chain shows that a record was edited or inserted, that one is missing between two others or before
// the head, and that the first ones or all are missing: the first record of every store is
// "store.create". It cannot show that an older head was put back and the records after it were
// removed, because the rest is a complete chain; nor that a record was removed that waited. A writer of
// the store can do so. To write other records takes the master key as well, see package sealed. To detect
// all this, keep the number and the hash of the newest record somewhere else.
//
// Damage never stops the log. If the head is missing, damaged or not the end of the
// records, the chain continues after its last record with a record "audit.damaged", and no
// record is overwritten: only the head, which follows from the records, and audit/written are written again. A
// damaged record in audit/new stays where it is and is not chained, because it proves nothing.
// A damaged record in audit/log keeps its number: Verify names it, and Read shows it as
// "audit.unreadable". One that was inserted behind the end is not part of the chain until the chain has
// passed its number. A key in audit/log that is not a number is never part of it: Verify names
// it, and Read leaves it out.
//
// The time of a record is the decision time that the caller gives. Records are ordered by
// it; records of the same time have no order among them.
//
// After a crash a record is either in audit/new or in audit/log, because one transaction
// moves it.
//
// Read shows a decision as soon as the call that made it has answered: it chains what waits before
// it reads.
package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"keymill/storage"
)

const (
	newPrefix = "audit/new/"
	newEnd    = "audit/new0" // '0' follows '/'
	logPrefix = "audit/log/"
	logEnd    = "audit/log0"
	headKey   = "audit/head"

	timeLayout = "20060102T150405.000000000Z"
)

// An Event describes a decision.
type Event struct {
	Action string            // "key.rotate", "client.add", …
	By     string            // who decided: "uid:1000", "system", "client:billing"
	Target string            // the id of what changed
	Detail map[string]string // more facts, never a secret
}

// A Record is an Event in the chain.
type Record struct {
	Seq      uint64            `json:"seq"`
	Time     time.Time         `json:"time"`
	Action   string            `json:"action"`
	By       string            `json:"by"`
	Target   string            `json:"target,omitempty"`
	Detail   map[string]string `json:"detail,omitempty"`
	Previous string            `json:"previous"` // SHA-256 in hex of the previous record's stored bytes
}

// system decides what no operator requested.
const system = "system"

// A head is the end of the chain.
type head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// ErrDamaged means that something other than this package has changed the log.
var ErrDamaged = errors.New("audit log is damaged")

// Append adds e in the caller's transaction. It uses one key and at most 4 KiB of the
// transaction's limits. Strings that are too long are cut, because a decision must not
// fail because of a string that a client chose.
func Append(tx storage.Tx, at time.Time, e Event) error {
	r := bounded(e)
	at = at.UTC()
	r.Time = at.Truncate(time.Second) // as every instant that people see; the key below has the order
	b, err := encode(r)
	if err != nil {
		return err
	}
	random := make([]byte, randomDigits/2)
	rand.Read(random)
	return tx.Put(newPrefix+at.Format(timeLayout)+"-"+hex.EncodeToString(random), b)
}

// emptyHead returns the head of an empty chain.
func emptyHead() head {
	return head{Hash: strings.Repeat("0", 2*sha256.Size)}
}

// readHead returns the end of the chain. An empty chain has no head record.
func readHead(r storage.Reader) (head, error) {
	b, err := r.Get(headKey)
	if errors.Is(err, storage.ErrNotFound) {
		return emptyHead(), nil
	}
	var h head
	if err == nil {
		h, err = decodeHead(b)
	}
	if errors.Is(err, storage.ErrDamaged) {
		return head{}, fmt.Errorf("%w: the head is unreadable: %w", ErrDamaged, err)
	}
	return h, err
}

const randomDigits = 16

func hash(stored []byte) string {
	sum := sha256.Sum256(stored)
	return hex.EncodeToString(sum[:])
}

const maxPage = 1000 // records that one View reads at most
