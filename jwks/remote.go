package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnavailable says that there is no key set to trust: none could be fetched yet, or
// the last one is too old. It is no fault of the token; a service answers 503.
var ErrUnavailable = errors.New("no key set to trust")

// Defaults of a RemoteConfig.
const (
	DefaultMaxStale = time.Hour
	DefaultCooldown = 5 * time.Second
)

// longestStale bounds MaxStale, which also prolongs the life of a revoked key.
const longestStale = 24 * time.Hour

// A RemoteConfig says whose keys a Remote follows: give Issuer or URL.
type RemoteConfig struct {
	// Issuer is an issuer whose discovery document names the key set, exactly as its tokens
	// spell it: https://host, with a path or a trailing slash if that is its name.
	Issuer string
	// URL is the address of the key set itself, for an issuer without discovery.
	URL string

	// MaxStale is how long past its max-age a set is used while no newer one can be fetched:
	// at most 24 h, 0 means 1 h, and a negative one not at all.
	MaxStale time.Duration
	// Cooldown is the least time between two fetches; 0 means 5 s. It is half of the set's
	// lifetime where that is less.
	Cooldown time.Duration
	Timeout  time.Duration // of one fetch; 0 means 10 s
	Client   *http.Client  // nil means a plain one. After a failed fetch its idle connections are closed

	// Fetched, if it is set, hears of every fetch: nil for one that brought a set, or the
	// news that it has not changed. It is for logs and metrics, and must return soon: no
	// fetch begins meanwhile. It must not call Close.
	Fetched func(error)
}

// A Remote is a key set that follows its issuer. It fetches the set when it is made,
// again before the set's max-age is over, and when a token names a key that is not in
// it; but never twice within the cooldown, whatever tokens arrive. A set is replaced as
// a whole, so a key that was removed is forgotten within max-age, an hour at most.
//
// While no newer set can be fetched the last one is used for MaxStale more, then none.
// Attempts grow rare meanwhile, so a key that was revoked during an outage can live for a
// minute after it. It may be used by many goroutines.
type Remote struct {
	config  RemoteConfig
	fetcher *fetcher // of the loop alone
	release func()   // lets go of connections that nobody uses
	cancel  context.CancelFunc
	done    chan struct{} // closed when the loop has ended

	record atomic.Pointer[record] // never nil; stored by the loop alone
	wake   chan struct{}          // holds one call for the loop

	mu      sync.Mutex // guards what follows
	running *attempt   // asked for or under way; nil between attempts
	fetches int
	closed  bool
}

// NewRemote checks c and begins to follow the set in the background, until Close. It does
// not wait for the first set: a service may start before its issuer does. Its error is an
// ErrConfig.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c = c.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Remote{
		config:  c,
		cancel:  cancel,
		done:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		running: newAttempt(), // the first one, for callers to wait for from the start
	}
	var client *http.Client
	client, r.release = safeClient(c.Client)
	r.fetcher = &fetcher{client: client, issuer: c.Issuer, location: c.URL}
	r.record.Store(&record{location: c.URL})
	go r.follow(ctx)
	return r, nil
}

// check refuses what would be no bound, or would let keys come from anywhere.
func (c RemoteConfig) check() error {
	switch {
	case (c.Issuer == "") == (c.URL == ""):
		return errors.New("give the issuer or the URL of its key set")
	case c.Cooldown < 0:
		return fmt.Errorf("cooldown %v is negative", c.Cooldown)
	case c.Timeout < 0:
		return fmt.Errorf("timeout %v is negative", c.Timeout)
	case c.MaxStale > longestStale:
		return fmt.Errorf("%v stale is over %v; it also prolongs a revoked key", c.MaxStale, longestStale)
	}
	if c.Issuer != "" {
		_, err := parseIssuer(c.Issuer)
		return err
	}
	if _, err := parseLocation(c.URL); err != nil {
		return fmt.Errorf("URL: %w", err)
	}
	return nil
}

func (c RemoteConfig) withDefaults() RemoteConfig {
	if c.MaxStale == 0 {
		c.MaxStale = DefaultMaxStale
	}
	c.MaxStale = max(c.MaxStale, 0)
	if c.Cooldown == 0 {
		c.Cooldown = DefaultCooldown
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return c
}

// Close ends the background work and waits for its end. The set that is there goes on
// being served until it is too old. Closing twice does no harm.
func (r *Remote) Close() {
	r.cancel()
	<-r.done
	r.release()
}

// Set returns the set to trust now. It waits for the first one as long as ctx and the
// deadline of a fetch allow, and for a newer one, when that is due, a second at most: the
// old set is good for MaxStale more. Once a fetch has failed it waits no more until one
// succeeds. Without a set that may be used it returns ErrUnavailable.
func (r *Remote) Set(ctx context.Context) (*Set, error) { return r.current(ctx) }

// current is asked for every token: with a fresh set it takes no lock.
func (r *Remote) current(ctx context.Context) (*Set, error) {
	now, last := time.Now(), r.record.Load()
	if last.fresh(now) {
		return last.set, nil
	}
	usable := last.usable(now, r.config.MaxStale)
	switch {
	case usable && last.err != nil:
		return last.set, nil // the loop tries on, ever more seldom
	case last.failing():
		r.ask(now) // with callers turned away it tries as often as the cooldown allows
		return nil, last.unavailable(now)
	}
	a, _ := r.ask(now)
	if usable {
		return r.renewed(ctx, a)
	}
	return r.outcome(ctx, a)
}

// renewed waits for a no longer than a second from its beginning, since there is a set to
// go on with: behind a server that hangs, every request would hang for a whole timeout.
func (r *Remote) renewed(ctx context.Context, a *attempt) (*Set, error) {
	if a != nil {
		brief, cancel := context.WithDeadline(ctx, a.asked.Add(time.Second))
		defer cancel()
		if set, err := r.outcome(brief, a); err == nil {
			return set, nil
		}
	}
	return r.best()
}

// missed asks for a newer set than one that lacks a kid, and returns what is there where
// that is not to be had. During an outage only the caller who sets an attempt off waits
// for it: made-up kids must not pile up requests behind a dead server.
func (r *Remote) missed(ctx context.Context, set *Set) (*Set, error) {
	now, last := time.Now(), r.record.Load()
	if last.set != set {
		return r.best()
	}
	a, mine := r.ask(now)
	if last.err != nil && !mine {
		return r.best()
	}
	return r.outcome(ctx, a)
}

// outcome waits for a, if there is one, and returns the best set then. The set that a
// brings is good whatever its age: there is no newer one.
func (r *Remote) outcome(ctx context.Context, a *attempt) (*Set, error) {
	if a == nil {
		return r.best()
	}
	// The attempt has its own deadline. This one is for a Fetched that does not return.
	timer := time.NewTimer(r.config.Timeout + time.Second)
	defer timer.Stop()
	select {
	case <-a.done:
		if a.err == nil {
			return a.set, nil
		}
	case <-timer.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for one: %w", ErrUnavailable, ctx.Err())
	}
	return r.best()
}

// best returns the set that is there, if it may still be used.
func (r *Remote) best() (*Set, error) {
	now, last := time.Now(), r.record.Load()
	if last.usable(now, r.config.MaxStale) {
		return last.set, nil
	}
	return nil, last.unavailable(now)
}

func (r *Remote) belongsTo(issuer string) error {
	if r == nil || r.record.Load() == nil {
		return errors.New("the Remote is none that NewRemote made")
	}
	if r.config.Issuer != "" && r.config.Issuer != issuer {
		return fmt.Errorf("the keys are those of issuer %q, not of %q", clip(r.config.Issuer), clip(issuer))
	}
	return nil
}
