// Package audit: contract, to be written.
package audit

import (
	"context"
	"time"

	"keymill/storage"
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

// Append adds e in the caller's transaction (two keys at most).
func Append(tx storage.Tx, at time.Time, e Event) error { panic("unwritten") }

// Run moves new records into the chain once a second until ctx ends.
func Run(ctx context.Context, s storage.Store) error { panic("unwritten") }

// Chain moves what is waiting; it returns how many records it moved.
func Chain(ctx context.Context, s storage.Store) (int, error) { panic("unwritten") }

// Tail returns up to limit records with Seq > after, oldest first.
// Last returns the newest n, oldest first.
func Tail(ctx context.Context, s storage.Store, after uint64, limit int) ([]Record, error) {
	panic("unwritten")
}
func Last(ctx context.Context, s storage.Store, n int) ([]Record, error) { panic("unwritten") }

// Verify walks the whole chain, paged, and returns its length, or where it breaks.
func Verify(ctx context.Context, s storage.Store) (uint64, error) { panic("unwritten") }
