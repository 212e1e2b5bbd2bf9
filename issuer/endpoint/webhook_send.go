package endpoint

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/outbox"
)

const (
	sendTimeout    = 15 * time.Second // of one try, answer included
	maxAnswerBytes = 4 << 10          // read of an answer's body, so that the connection can be used again
	maxReasonBytes = 200              // of an error, in logs and in the audit log
	giveUpAfter    = 72 * time.Hour   // since the event
	maxAsked       = time.Hour        // by a Retry-After
)

// An outcome is what became of one try. If why is empty, the event is forgotten: the
// receiver has it, or it was dropped for the reason in dropped.
type outcome struct {
	dropped string
	why     string
	asked   time.Duration // Retry-After of the answer
}

// try makes one try and forgets the event if it was the last.
//
// A crash after the receiver's answer and before the commit sends the event again.
func (w *Webhook) try(ctx context.Context, d *delivery) outcome {
	if d.Kind == "" {
		return w.drop(ctx, d, "the record is damaged")
	}
	var o outcome
	status := 0
	if !d.taken {
		status, o = w.post(ctx, d.Event)
		d.taken = o.why == ""
	}
	switch {
	case d.taken:
		// A stop of the server must not undo what the receiver has said.
		if err := w.outbox.Sent(context.WithoutCancel(ctx), d.ID); err != nil {
			return outcome{why: "it was taken, but cannot be forgotten: " + err.Error()}
		}
	case status == http.StatusGone:
		return w.drop(ctx, d, o.why)
	case ctx.Err() == nil && w.outbox.Age(d.Event) >= giveUpAfter:
		return w.drop(ctx, d, "three days of failures, at last: "+o.why)
	}
	return o
}

func (w *Webhook) drop(ctx context.Context, d *delivery, why string) outcome {
	if err := w.outbox.Dropped(context.WithoutCancel(ctx), d.ID, why); err != nil {
		return outcome{why: "it cannot be dropped: " + err.Error()}
	}
	return outcome{dropped: why}
}

// post sends an event. The status is 0 if there was no answer.
func (w *Webhook) post(ctx context.Context, e outbox.Event) (status int, o outcome) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(e.Payload))
	if err != nil {
		return 0, outcome{why: "no request can be made"} // the URL was checked
	}
	w.sign(r.Header, e, w.outbox.WallTime())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "keymill")
	response, err := w.client.Do(r)
	if err != nil {
		return 0, outcome{why: reason(err)}
	}
	defer response.Body.Close()
	status = response.StatusCode
	io.CopyN(io.Discard, response.Body, maxAnswerBytes) // the status has said all; a failure here means nothing
	if status/100 == 2 {
		return status, outcome{}
	}
	return status, outcome{
		why:   fmt.Sprintf("the receiver answered %d", status),
		asked: retryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
}

func (w *Webhook) sign(h http.Header, e outbox.Event, now time.Time) {
	seconds := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, w.key)
	fmt.Fprintf(mac, "%s.%s.%s", e.ID, seconds, e.Payload)
	h.Set("webhook-id", e.ID)
	h.Set("webhook-timestamp", seconds)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// reason says why there was no answer. A *url.Error is taken apart, as it holds the URL.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", sendTimeout)
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	why := err.Error()
	if len(why) > maxReasonBytes { // a receiver's words can be in it
		why = strings.ToValidUTF8(why[:maxReasonBytes], "") + "…"
	}
	return why
}

// retryAfter reads the header of RFC 9110, section 10.2.3; 0 if there is none.
func retryAfter(value string, now time.Time) time.Duration {
	var asked time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		asked = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		asked = at.Sub(now)
	}
	return min(max(asked, 0), maxAsked)
}
