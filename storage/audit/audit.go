// Package audit keeps what was decided, by whom and when, in the order in which it
// was decided, so that a later change of the past shows.
//
// A decision appends its record in its own transaction, so neither is there without
// the other. A chain has one head, and if every decision moved it they would all
// wait for each other; so the record goes to a place of its own first, and once a
// second a background loop moves what is there to the end of the chain:
//
//	decision ──▶ audit/new/<time>-<random>
//	                        │  Chain, once a second
//	                        ▼
//	             audit/log/<seq>   …  n−1 ◀── n ◀── n+1   each with the hash of the one before
//	             audit/head        seq and hash of the last
//
//	<time>    instant of the decision, 20060102T150405.000000000Z
//	<random>  16 hex digits
//	<seq>     20 decimal digits, from 1
//
// A stored record is one line of JSON in printable ASCII: whatever a stranger put
// into a name, no line break or terminal sequence leaves this package unescaped. It
// stays under 4 KiB, as long strings are cut. The hash is SHA-256 in hex over those
// bytes; the first record names 64 zeros.
//
// The chain shows an edit, a gap and a lost end. It cannot show that the whole of it
// was written anew by somebody who owns the store: who fears that keeps the head's
// hash elsewhere.
//
// Records are ordered by the instants that their decisions give. Two of one instant
// keep no order between them.
package audit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// An Event is what a decision leaves behind.
type Event struct {
	Action string            // "key.rotate", "client.add", …
	By     string            // who: "uid:1000", "system", "client:billing"
	Target string            // what it was done to
	Detail map[string]string // flat facts; never a secret
}

// A Record is an Event in the chain.
type Record struct {
	Seq      uint64            `json:"seq"`
	Time     time.Time         `json:"time"`
	Action   string            `json:"action"`
	By       string            `json:"by"`
	Target   string            `json:"target,omitempty"`
	Detail   map[string]string `json:"detail,omitempty"`
	Previous string            `json:"previous"` // SHA-256, hex, of the predecessor's stored bytes
}

// A head is the end of the chain.
type head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// errDamaged is for a store that somebody else has written to.
var errDamaged = errors.New("audit trail is damaged")

// Append adds e in the caller's transaction, of which it takes one key and at most
// 4 KiB. Strings that are too long are cut, for a decision must not fail because
// of what a stranger wrote.
func Append(tx storage.Tx, at time.Time, e Event) error {
	r := bounded(e)
	r.Time = at.UTC()
	b, err := encode(r)
	if err != nil {
		return err
	}
	random := make([]byte, 8)
	rand.Read(random)
	return tx.Put(newPrefix+r.Time.Format(timeLayout)+"-"+hex.EncodeToString(random), b)
}

// genesis is the head of an empty chain.
func genesis() head {
	return head{Hash: strings.Repeat("0", 2*sha256.Size)}
}

// readHead returns the end of the chain; that of an empty one has no record.
func readHead(r storage.Reader) (head, error) {
	b, err := r.Get(headKey)
	if errors.Is(err, storage.ErrNotFound) {
		return genesis(), nil
	}
	if err != nil {
		return head{}, err
	}
	var h head
	if err := json.Unmarshal(b, &h); err != nil {
		return head{}, fmt.Errorf("%w: unreadable head: %v", errDamaged, err)
	}
	return h, nil
}

func logKey(seq uint64) string { return fmt.Sprintf("%s%020d", logPrefix, seq) }

func hash(stored []byte) string {
	sum := sha256.Sum256(stored)
	return hex.EncodeToString(sum[:])
}

// maxPage bounds what one View reads.
const maxPage = 1000

// Tail returns up to limit records with Seq > after, oldest first, and at most 1,000
// at a time. A decision appears here within a second or so, when it is chained.
func Tail(ctx context.Context, s storage.Store, after uint64, limit int) ([]Record, error) {
	var records []Record
	err := s.View(ctx, func(r storage.Reader) (err error) {
		records, err = read(r, after, limit)
		return err
	})
	return records, err
}

// Last returns the newest n records, oldest first, and at most 1,000.
func Last(ctx context.Context, s storage.Store, n int) ([]Record, error) {
	n = min(n, maxPage)
	var records []Record
	err := s.View(ctx, func(r storage.Reader) error {
		h, err := readHead(r)
		if err != nil || n <= 0 {
			return err
		}
		records, err = read(r, h.Seq-min(h.Seq, uint64(n)), n)
		return err
	})
	return records, err
}

func read(r storage.Reader, after uint64, limit int) ([]Record, error) {
	limit = min(limit, maxPage)
	if limit <= 0 || after+1 == 0 {
		return nil, nil
	}
	var records []Record
	for e, err := range r.Scan(logKey(after+1), logEnd) {
		if err != nil {
			return nil, err
		}
		var record Record
		if err := json.Unmarshal(e.Value, &record); err != nil {
			return nil, fmt.Errorf("%w: %s is unreadable: %v", errDamaged, e.Key, err)
		}
		if records = append(records, record); len(records) == limit {
			break
		}
	}
	return records, nil
}
