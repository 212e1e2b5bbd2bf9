// Package readiness tells why a server is not ready. Such a server still serves its key set, from memory;
// what it cannot do is to issue tokens, or to check sessions:
//
//	key set ─┐
//	keys ────┼──▶ Issues: in words ──▶ admin API, log
//	store ───┘         └──▶ Look, once a second ──▶ Ready: from memory, for metrics
//
// Readiness is for load balancers: it says whether another server should get the requests for tokens. It is no reason
// to restart the process.
package readiness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/keyset"
	"keymill/keystore"
	"keymill/storage"
)

const (
	// answers is how long a check waits for the store.
	answers = 2 * time.Second

	// commitTime is how long a commit of the store may take. Only a disk that hangs takes longer.
	commitTime = 5 * time.Second

	// readyFor is how long the last Look counts. One that takes longer, because the store hangs,
	// is a failed one.
	readyFor = 5 * time.Second
)

// Config is what a Checker needs. Issuer, Keys, KeySet and Log must be set.
type Config struct {
	Issuer *issuer.Issuer
	Keys   *keystore.Rings
	KeySet *keyset.KeySet

	Failed      func() error              // nil while the store works; may be nil
	Away        func() (time.Time, error) // since when and why the store cannot be reached, see storage.Status; may be nil
	CommitSince func() time.Time          // when the store's commit under way began, zero if there is none; may be nil

	Log *slog.Logger
}

// A Checker finds out whether a server is ready. It is safe for concurrent use.
type Checker struct {
	cfg   Config
	ready atomic.Pointer[time.Time] // when Look last found nothing
}

// New returns a Checker.
func New(cfg Config) *Checker { return &Checker{cfg: cfg} }

// Look logs when the reasons why the server is not ready are others than those of before, and returns them.
func (c *Checker) Look(before []string) []string {
	issues := c.Issues()
	c.note(len(issues) == 0)
	switch {
	case slices.Equal(issues, before):
	case len(issues) == 0:
		c.cfg.Log.Info("ready again")
	default:
		c.cfg.Log.Warn("not ready", "issues", strings.Join(issues, "; "))
	}
	return issues
}

func (c *Checker) note(ready bool) {
	if !ready {
		c.ready.Store(nil)
		return
	}
	c.ready.Store(new(time.Now()))
}

// Ready reports whether Look found the server ready within the last seconds. Unlike Issues it reads no
// record, so it answers at once.
func (c *Checker) Ready() bool {
	last := c.ready.Load()
	return last != nil && time.Since(*last) < readyFor
}

// hangs reports whether a commit of the store has taken too long. All changes wait for it.
func (c *Checker) hangs() bool {
	if c.cfg.CommitSince == nil {
		return false
	}
	since := c.cfg.CommitSince()
	return !since.IsZero() && time.Since(since) > commitTime
}

// damageIssue returns the issue of a damaged record with the key. text is its error, and keys are the issues of the keys.
// It returns "" if some tokens do not need the record, or if keys names it already.
func damageIssue(key, text string, keys []string) string {
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case "manifest", "ring", "retired", "refresh", "clock":
		if !slices.ContainsFunc(keys, func(issue string) bool { return strings.Contains(issue, text) }) {
			return text + ": stop the server and run keymill doctor"
		}
	}
	return ""
}

// Issues of a store that cannot be used again in this process.
const (
	failedIssue = "the store has failed and accepts no more requests"
	closedIssue = "the store is closed; the server stops"
)

// endIssue returns that the store has ended, if it has or if err says so, or "". The process says why it ends.
func (c *Checker) endIssue(err error) string {
	var failed error
	if c.cfg.Failed != nil {
		failed = c.cfg.Failed()
	}
	switch {
	case errors.Is(failed, storage.ErrClosed), failed == nil && errors.Is(err, storage.ErrClosed):
		return closedIssue
	case failed != nil:
		return failedIssue
	}
	return ""
}

// Ended reports whether the store has ended, which err of a call of it can say. Background work logs no such error.
func (c *Checker) Ended(err error) bool { return c.endIssue(err) != "" }

// checkStore returns why no session can be checked, or nothing. It asks also a store that was away, because the answer
// tells that it is back. A store that has ended is not asked.
func (c *Checker) checkStore() (issues []string) {
	if ended := c.endIssue(nil); ended != "" {
		return []string{ended}
	}
	if c.hangs() {
		// The session check can wait for the same commit.
		return []string{fmt.Sprintf("the store hangs: a commit has not ended within %v", commitTime)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), answers) // a disk or a network can hang
	defer cancel()
	err := c.cfg.Issuer.CheckEpoch(ctx)
	if err == nil {
		return nil
	}
	if ended := c.endIssue(err); ended != "" { // in between
		return []string{ended}
	}
	if c.cfg.Away != nil {
		if since, why := c.cfg.Away(); why != nil {
			return []string{fmt.Sprintf("the store cannot be reached since %s: %v", since.UTC().Format(time.RFC3339), why)}
		}
	}
	return []string{"no session can be checked: " + err.Error()}
}

// Issues returns the reasons why the server is not ready; never nil, so that JSON shows a list.
func (c *Checker) Issues() []string {
	issues := append([]string{}, c.checkStore()...)
	if words := c.cfg.KeySet.Issue(); words != "" {
		issues = append(issues, words)
	}
	keys := c.cfg.Keys.Status()
	for _, damaged := range c.cfg.Keys.Damaged() {
		if issue := damageIssue(damaged.Key, damaged.Error(), keys.Issues); issue != "" {
			issues = append(issues, issue)
		}
	}
	issues = append(issues, keys.Issues...)
	if !keys.Ready && len(issues) == 0 {
		issues = append(issues, "the keys are not ready")
	}
	return issues
}
