package endpoint

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
)

// WebhookConfig is what a Webhook needs.
type WebhookConfig struct {
	// URL is where events are posted to: https, or http to loopback. Its path may be a
	// secret of the receiver's, so that neither errors nor log lines hold more than the host.
	URL string

	// Secret is "whsec_" and the base64 of 24 to 64 bytes, which the receiver knows too.
	Secret refusal.Secret

	Outbox *outbox.Outbox // of the Issuer
	Log    *slog.Logger   // nil discards
}

// A Webhook tells one receiver of replays and revocations, as the Standard Webhooks
// specification 1.0.0 describes it:
//
//	POST <URL>
//	Content-Type: application/json
//	webhook-id: <id of the event>          the same in every try
//	webhook-timestamp: <Unix seconds>      of the try
//	webhook-signature: v1,<base64 of HMAC-SHA256(secret, id "." timestamp "." body)>
//
//	{"type": "session.revoked", "timestamp": "…", "data": {…}}
//
// An event is sent at least once: it is forgotten after the receiver answered 2xx, so a
// crash in between sends it again, and the receiver tells by the id. Anything but 2xx is a
// failure. Tries are 5 s, 30 s, 2 min, 10 min and then an hour apart, each up to a quarter
// later; the last is made three days after the event, and 410 ends them at once. After a
// restart everything that waits is tried anew, and nothing is dropped without a try.
//
// At most four events are under way at a time, and after a failure one at a time and one a
// second, until the receiver takes something: a receiver that is down is asked once a
// second, however many events wait. New events go before those that have failed.
//
// Certificates are verified against the system's roots. Redirects are not followed, as the
// receiver's new place is for the operator to say; and the proxies that the environment
// names are not used, since it was set up with other requests in mind than those that tell
// who was logged out.
type Webhook struct {
	url    string
	host   string
	key    []byte
	outbox *outbox.Outbox
	client *http.Client
	log    *slog.Logger
}

// NewWebhook checks the configuration. Its errors hold nothing secret.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if cfg.Outbox == nil {
		return nil, errors.New("endpoint: a webhook needs an Outbox")
	}
	u, err := checkWebhookURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	key, err := webhookKey(cfg.Secret)
	if err != nil {
		return nil, err
	}
	w := &Webhook{url: u.String(), host: u.Host, key: key, outbox: cfg.Outbox, client: newSender(), log: cfg.Log}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	return w, nil
}

func checkWebhookURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, errors.New("the webhook has no URL")
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("the webhook's URL is not one such as https://siem.example.com/keymill")
	case u.User != nil:
		return nil, errors.New("the webhook's URL must not hold a user or a password: the signature says who is speaking")
	case u.Fragment != "" || strings.HasSuffix(s, "#"):
		return nil, errors.New("the webhook's URL must not have a fragment: it would not be sent")
	case u.Scheme == "https" || u.Scheme == "http" && isLoopbackHost(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("the webhook's URL, which goes to %s, must be https: it tells who was logged out", u.Host)
}

func isLoopbackHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// webhookKey decodes a secret. The comparison refuses what Go's decoder would overlook:
// line breaks and bits that mean nothing.
func webhookKey(s refusal.Secret) ([]byte, error) {
	text, prefixed := strings.CutPrefix(string(s), "whsec_")
	key, err := base64.StdEncoding.DecodeString(text)
	if !prefixed || err != nil || base64.StdEncoding.EncodeToString(key) != text || len(key) < 24 || len(key) > 64 {
		return nil, errors.New(`the webhook's secret must be "whsec_" and the base64 of 24 to 64 random bytes`)
	}
	return key, nil
}

// newSender returns a client that goes to the receiver and nowhere else.
func newSender() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil,
			TLSHandshakeTimeout:    sendTimeout,
			MaxConnsPerHost:        maxSends,
			MaxIdleConnsPerHost:    maxSends,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run sends until ctx ends, which is no error. It looks for events once a second, and
// writes only to forget one: no request ever waits for it.
func (w *Webhook) Run(ctx context.Context) error {
	q := newWebhookQueue(w)
	defer q.wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		q.look(ctx)
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
