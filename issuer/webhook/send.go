package webhook

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
	sendTimeout     = 15 * time.Second // of one try, answer included
	maxAnswerBytes  = 4 << 10          // of an answer's body that are read, so that the connection can be used again
	maxFailureBytes = 200              // of an error in the log and the audit log
	giveUpAfter     = 72 * time.Hour   // since the event
	maxRetryAfter   = time.Hour
)

// An outcome is the result of one try. If failure is empty, the event is deleted: the
// receiver has it, or it was dropped.
type outcome struct {
	failure    string        // why the event must be tried again
	ended      bool          // the store has ended, so no try can succeed
	dropped    string        // why the event was dropped
	gone       bool          // another server has sent or dropped it
	retryAfter time.Duration // of the receiver's answer
}

// try makes one try, and deletes the event if it was the last one. A crash after the
// receiver's answer and before the commit sends the event again.
func (s *Sender) try(ctx context.Context, d *delivery) outcome {
	var o outcome
	status := 0
	if !d.accepted {
		if waits, err := s.waits(ctx, d.ID); err != nil {
			return s.storeFault("the event cannot be read: ", err)
		} else if !waits {
			return outcome{gone: true}
		}
		status, o = s.post(ctx, d.Event)
		d.accepted = o.failure == ""
	}
	switch {
	case d.accepted:
		// The receiver has the event, so it is deleted even if the server is stopping.
		if err := s.outbox.MarkSent(context.WithoutCancel(ctx), d.ID); err != nil {
			return s.storeFault("the receiver has the event, but it cannot be deleted: ", err)
		}
	case status == http.StatusGone:
		return s.drop(ctx, d, o.failure)
	case ctx.Err() == nil && s.outbox.Age(d.Event) >= giveUpAfter:
		return s.drop(ctx, d, "all tries of three days failed, the last with: "+o.failure)
	}
	return o
}

// waits reports whether an event still waits. The only server of a store need not look.
func (s *Sender) waits(ctx context.Context, id string) (bool, error) {
	if s.hold == nil {
		return true, nil
	}
	return s.outbox.Waits(ctx, id)
}

func (s *Sender) drop(ctx context.Context, d *delivery, why string) outcome {
	if err := s.outbox.Drop(context.WithoutCancel(ctx), d.ID, why); err != nil {
		return s.storeFault("the event cannot be dropped: ", err)
	}
	return outcome{dropped: why}
}

func (s *Sender) storeFault(what string, err error) outcome {
	return outcome{failure: what + err.Error(), ended: s.outbox.Ended(err)}
}

// post sends an event. The status is 0 if there was no answer.
func (s *Sender) post(ctx context.Context, e outbox.Event) (status int, o outcome) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(e.Payload))
	if err != nil {
		return 0, outcome{failure: "the request cannot be built"} // New has checked the URL
	}
	s.sign(r.Header, e, s.outbox.WallTime())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "keymill")
	response, err := s.client.Do(r)
	if err != nil {
		return 0, outcome{failure: failureOf(err)}
	}
	defer response.Body.Close()
	status = response.StatusCode
	io.CopyN(io.Discard, response.Body, maxAnswerBytes) // only the status counts, so an error here is ignored
	if status/100 == 2 {
		return status, outcome{}
	}
	return status, outcome{
		failure:    fmt.Sprintf("the receiver answered %d", status),
		retryAfter: parseRetryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
}

func (s *Sender) sign(h http.Header, e outbox.Event, now time.Time) {
	seconds := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, *s.key.Load())
	fmt.Fprintf(mac, "%s.%s.%s", e.ID, seconds, e.Payload)
	h.Set("webhook-id", e.ID)
	h.Set("webhook-timestamp", seconds)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// failureOf returns why there was no answer. The text of a *url.Error is not used, because
// it contains the URL.
func failureOf(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", sendTimeout)
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	if len(text) > maxFailureBytes { // it can contain text of the receiver
		text = strings.ToValidUTF8(text[:maxFailureBytes], "") + "…"
	}
	return text
}

// parseRetryAfter parses the header (RFC 9110, section 10.2.3); 0 if it is absent or invalid.
func parseRetryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
