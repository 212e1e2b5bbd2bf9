package jwks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnavailable is the error if there is no key set to use: none was fetched yet, or the last
// one is too old. It says nothing about the token. A service responds with 503.
var ErrUnavailable = errors.New("no usable key set")

// Defaults of a RemoteConfig.
const (
	DefaultMaxStale = time.Hour
	DefaultCooldown = 5 * time.Second
)

// longestStale bounds MaxStale, because a revoked key stays valid for that time too.
const longestStale = 24 * time.Hour

// A RemoteConfig says which key set a Remote keeps up to date. Set Issuer or URL.
type RemoteConfig struct {
	// Issuer is the issuer exactly as its tokens write it: https://host, with a path or a
	// trailing slash if its name has one. Its discovery document names the key set.
	Issuer string
	// URL is the address of the key set, for an issuer without discovery.
	URL string
	// Verifier is the credential that "keymill verifier add" printed, NAME.TAG; "" for none. The Remote sends it
	// with each request for the key set, as VerifierHeader, and to no other address. Then Keymill knows by
	// name that this service has the next key before that key signs, and "keymill key rotate" waits for it. It opens
	// nothing and changes no response. All processes of a service may use one credential: the
	// newest fetch of any of them counts. No log line, error or status has it.
	Verifier string

	// MaxStale is how long a set is used after its max-age while no newer one can be fetched.
	// It is at most 24 h; 0 means 1 h, and a negative value means no time.
	MaxStale time.Duration
	// Cooldown is the least time between two fetches; 0 means 5 s. If half of the set's
	// lifetime is shorter, it is used instead.
	Cooldown time.Duration
	Timeout  time.Duration // of one fetch; 0 means 10 s
	Client   *http.Client  // nil means a default one; after a failed fetch its idle connections are closed

	// Fetched, if it is not nil, is called after every fetch with its error. The error is nil
	// if the fetch returned a set, or if the set has not changed. Fetched is for logs and
	// metrics. It must return soon, since no fetch begins before that, and it must not call
	// Close.
	Fetched func(error)

	// Log gets one line when the Remote can no longer fetch a usable set, when it has no set to use, and when
	// it works again, but none for a request or a single attempt. nil means slog.Default().
	// Use slog.New(slog.DiscardHandler) for no lines.
	Log *slog.Logger
}

// A Remote keeps a copy of an issuer's key set up to date. It fetches the set when it is
// created, again before max-age is over, and when a token names a key that is not in the set.
// It never fetches twice within the cooldown, whatever tokens arrive. A set is replaced as a
// whole, so a key that the issuer removed is gone within max-age, at most an hour.
//
// While no newer set can be fetched, the last one is used for MaxStale longer. After that
// there is no set to use. During an outage the attempts become less frequent, up to a minute
// apart. So a key that was revoked during an outage can stay valid for a minute after it.
//
// A set without a usable key, such as {"keys":[]}, never replaces a good one: most often it is a mistake
// of a deployment, and with it every token would be refused. The attempt counts as failed and is
// repeated after the cooldown. If that confirms it, it is an outage like any other, which is
// logged. So if an issuer withdraws its last key, that key stays valid until MaxStale is over.
//
// A Remote is safe for concurrent use.
type Remote struct {
	config  RemoteConfig
	fetcher *fetcher // only the loop uses it
	release func()   // closes idle connections
	cancel  context.CancelFunc
	done    chan struct{} // closed when the loop ends

	log remoteLog // only the loop uses it

	record atomic.Pointer[record] // never nil; only the loop stores
	wake   chan struct{}          // holds one request for an attempt

	mu      sync.Mutex // guards the fields below
	running *attempt   // requested or in progress; nil between attempts
	fetches int
	closed  bool
}

// NewRemote checks c and keeps the set up to date in the background until Close. It does not
// wait for the first set: a service may start before its issuer does. Its error is ErrConfig.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c = c.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Remote{
		config:  c,
		log:     newRemoteLog(c),
		cancel:  cancel,
		done:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		running: newAttempt(), // the first attempt, so that callers can wait for it at once
	}
	var client *http.Client
	client, r.release = safeClient(c.Client)
	r.fetcher = &fetcher{client: client, issuer: c.Issuer, location: c.URL, verifier: c.Verifier}
	r.record.Store(&record{location: c.URL})
	go r.follow(ctx)
	return r, nil
}

// check refuses limits that are negative or too large, and addresses that are neither https
// nor http with a loopback host.
func (c RemoteConfig) check() error {
	switch {
	case (c.Issuer == "") == (c.URL == ""):
		return errors.New("give the issuer or the URL of its key set")
	case c.Cooldown < 0:
		return fmt.Errorf("cooldown %v is negative", c.Cooldown)
	case c.Timeout < 0:
		return fmt.Errorf("timeout %v is negative", c.Timeout)
	case c.MaxStale > longestStale:
		return fmt.Errorf("MaxStale %v is over %v; revoked keys stay valid for that time too", c.MaxStale, longestStale)
	}
	if err := checkCredential(c.Verifier); err != nil {
		return err
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

// Close stops the background work and waits until it has ended. The last set is still
// returned until it is too old. Close may be called twice.
func (r *Remote) Close() {
	r.cancel()
	<-r.done
	r.release()
}

// Set returns the set to use now. It waits for the first set as long as ctx and the timeout of
// a fetch allow. If a newer set is due, Set waits for it for at most a second, since the
// old one can be used for MaxStale longer. After a failed fetch it does not wait until a fetch
// succeeds. It returns ErrUnavailable if there is no set that may be used.
func (r *Remote) Set(ctx context.Context) (*Set, error) { return r.current(ctx) }

// current is called for every token. It takes no lock while the set is fresh.
func (r *Remote) current(ctx context.Context) (*Set, error) {
	now, last := time.Now(), r.record.Load()
	if last.fresh(now) {
		return last.set, nil
	}
	usable := last.usable(now, r.config.MaxStale)
	switch {
	case usable && last.err != nil:
		return last.set, nil // the loop continues to try, less and less often
	case last.failing():
		r.requestFetch(now) // callers are refused, so try as often as the cooldown allows
		return nil, last.unavailable(now)
	}
	a, _ := r.requestFetch(now)
	if usable {
		return r.waitOneSecond(ctx, a)
	}
	return r.waitFor(ctx, a)
}

// waitOneSecond waits for the attempt a until a second after it was requested, and then uses
// the last set. With a server that hangs, a longer wait would delay every request by the timeout.
func (r *Remote) waitOneSecond(ctx context.Context, a *attempt) (*Set, error) {
	if a != nil {
		brief, cancel := context.WithDeadline(ctx, a.requested.Add(time.Second))
		defer cancel()
		if set, err := r.waitFor(brief, a); err == nil {
			return set, nil
		}
	}
	return r.lastUsable()
}

// refresh requests a newer set because a kid is not in set. It returns the last set if there
// is no newer one. During an outage only the caller that starts an attempt waits for it.
// Otherwise tokens with invented kids could pile up requests while the server is down.
func (r *Remote) refresh(ctx context.Context, set *Set) (*Set, error) {
	now, last := time.Now(), r.record.Load()
	if last.set != set {
		return r.lastUsable()
	}
	a, mine := r.requestFetch(now)
	if last.err != nil && !mine {
		return r.lastUsable()
	}
	return r.waitFor(ctx, a)
}

// waitFor waits for the attempt a, if it is not nil, and returns the newest set that may be
// used. A set that a fetched may be used whatever its age, since there is no newer one.
func (r *Remote) waitFor(ctx context.Context, a *attempt) (*Set, error) {
	if a == nil {
		return r.lastUsable()
	}
	// The attempt has its own timeout. This one is for a Fetched that does not return.
	timer := time.NewTimer(r.config.Timeout + time.Second)
	defer timer.Stop()
	select {
	case <-a.done:
		if a.err == nil {
			return a.set, nil
		}
	case <-timer.C:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for a fetch: %w", ErrUnavailable, ctx.Err())
	}
	return r.lastUsable()
}

// lastUsable returns the last set if it may still be used.
func (r *Remote) lastUsable() (*Set, error) {
	now, last := time.Now(), r.record.Load()
	if last.usable(now, r.config.MaxStale) {
		return last.set, nil
	}
	return nil, last.unavailable(now)
}

func (r *Remote) belongsTo(issuer string) error {
	if r == nil || r.record.Load() == nil {
		return errors.New("the Remote was not created by NewRemote")
	}
	if r.config.Issuer != "" && r.config.Issuer != issuer {
		return fmt.Errorf("the keys belong to issuer %q, not to %q", clip(r.config.Issuer), clip(issuer))
	}
	return nil
}
