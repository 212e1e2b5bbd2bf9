// Package webhook delivers the events of an outbox to one receiver, over HTTP, as the
// Standard Webhooks specification 1.0.0 describes it:
//
//	POST <URL>
//	Content-Type: application/json
//	webhook-id: <id of the event>          the same in every try
//	webhook-timestamp: <Unix seconds>      of the try
//	webhook-signature: v1,<base64 of HMAC-SHA256(secret, id "." timestamp "." body)>
//
//	{"type": "session.revoked", "timestamp": "…", "data": {…}}
//
// An event is delivered at least once. It is deleted after the receiver answered 2xx, so a
// crash in between sends it again, and the receiver recognizes it by its id. Any other
// answer is a failure.
//
// The pauses between tries are 5 s, 30 s, 2 min, 10 min and then 1 h, each longer by a
// random part of up to a quarter. The last try is made three days after the event; the
// status 410 ends the tries at once. After a restart all waiting events are tried again,
// and no event is dropped before it was tried once.
//
// At most four events are sent at a time. After a failure one event a second is sent until
// the receiver accepts one, so a receiver that is down gets one request a second, whatever the
// number of waiting events. New events are sent before those that have failed.
//
// Of several servers with one store, the one that holds the lease sends. Another that takes it over tries
// all waiting events, as after a restart. Before each try it looks whether the event still waits, so only an event
// that two servers send at the same moment is sent twice.
//
// Certificates are verified with the system's roots. Redirects are not followed: only the
// operator decides where events go. HTTP_PROXY and the like are ignored: they were set for
// other requests, and events tell which users were logged out.
package webhook

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
)

// Config is what a Sender needs.
type Config struct {
	// URL is where events are posted, see CheckURL. Its path may be a secret of the
	// receiver, so errors and log lines show only the host.
	URL string

	Loopback func(host string) bool // see CheckURL

	// Secret signs the requests, see CheckSecret. The receiver has the same.
	Secret refusal.Secret

	// Hold reports whether this server sends, see nodes.Registry.Hold. It is called about once a second.
	// nil if it is the only server of the store.
	Hold func(context.Context) (bool, error)

	Outbox *outbox.Outbox // that of the issuer
	Log    *slog.Logger   // nil discards
}

// A Sender delivers events.
type Sender struct {
	url    string
	host   string
	key    atomic.Pointer[[]byte]
	outbox *outbox.Outbox
	hold   func(context.Context) (bool, error) // nil if there is one server
	client *http.Client
	log    *slog.Logger
	oldest atomic.Pointer[outbox.Event] // that waited at the last look; nil if none did
}

// New checks the configuration and returns a Sender. Its errors contain no secrets.
func New(cfg Config) (*Sender, error) {
	if cfg.Outbox == nil {
		return nil, errors.New("webhook: Outbox must be set")
	}
	u, err := parseURL(cfg.URL, cfg.Loopback)
	if err != nil {
		return nil, err
	}
	s := &Sender{url: u.String(), host: u.Host, outbox: cfg.Outbox, hold: cfg.Hold, client: newClient(), log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.SetSecret(cfg.Secret); err != nil {
		return nil, err
	}
	return s, nil
}

// SetSecret replaces the secret that signs the requests, see CheckSecret. A request that is being sent
// may still have the signature of the secret before.
func (s *Sender) SetSecret(secret refusal.Secret) error {
	key, err := parseSecret(secret)
	if err == nil {
		s.key.Store(&key)
	}
	return err
}

// CheckURL returns nil if events can be posted to url: https, or http to a host that loopback
// reports as this machine. A nil loopback allows https only.
func CheckURL(url string, loopback func(host string) bool) error {
	_, err := parseURL(url, loopback)
	return err
}

func parseURL(s string, loopback func(string) bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, errors.New("the webhook has no URL")
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("the webhook's URL must be like https://siem.example.com/keymill")
	case u.User != nil:
		return nil, errors.New("the webhook's URL must not have a user or a password: the receiver checks the signature instead")
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, errors.New("the webhook's URL must not have a fragment: it would not be sent")
	case u.Scheme == "https" || u.Scheme == "http" && loopback != nil && loopback(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("the webhook's URL (host %s) must use https: events contain user ids", u.Host)
}

// CheckSecret returns nil if secret is "whsec_" and the base64 of 24 to 64 bytes.
func CheckSecret(secret refusal.Secret) error {
	_, err := parseSecret(secret)
	return err
}

// parseSecret encodes the key again and compares, because Go's decoder accepts line breaks
// and unused bits that are not zero.
func parseSecret(s refusal.Secret) ([]byte, error) {
	text, prefixed := strings.CutPrefix(string(s), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !prefixed || err != nil || base64.StdEncoding.EncodeToString(key) != text || len(key) < 24 || len(key) > 64 {
		return nil, errors.New(`the webhook's secret must be "whsec_" and the base64 of 24 to 64 random bytes`)
	}
	return key, nil
}

// newClient returns a client that connects only to the receiver.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil,
			TLSHandshakeTimeout:    sendTimeout,
			MaxConnsPerHost:        maxParallel,
			MaxIdleConnsPerHost:    maxParallel,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Oldest returns the age of the oldest event that waits, 0 if none does or another server sends, as Run saw it
// when it last looked: at most eleven seconds ago. It does not read the store.
func (s *Sender) Oldest() time.Duration {
	e := s.oldest.Load()
	if e == nil {
		return 0
	}
	return max(0, s.outbox.Age(*e))
}

// Run delivers events until ctx ends, and then returns nil. It looks for events once a
// second, and writes to the store only to delete one: no request ever waits for it.
func (s *Sender) Run(ctx context.Context) error {
	q := newQueue(s)
	defer q.wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		q.takeTurn(ctx)
		q.poll(ctx)
		q.start(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case d := <-q.done:
			q.finish(ctx, d)
		}
	}
	return nil
}
