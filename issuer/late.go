package issuer

import (
	"fmt"
	"time"

	"keymill/keystore"
)

// maxDecision is how long the first decision about a token can take before the client may have gone on elsewhere.
const maxDecision = 3 * time.Second

// tooLate refuses to call a token replayed if its client may have sent it before it was replaced. On a shared store a
// request can wait in a server that is paused, or cut off from the store. Its client gives up, goes on at another server, uses the
// next token there and is no thief:
//
//	  the client sends the token      replaced elsewhere      this server decides
//	────────────┼────────────────────────────┼───────────────────────┼──────────▶ time
//	            └──────────────────── waited ────────────────────────┘
//
// replaced is the last rotation of the session, at the decision time of another server, which differs by as long as a poll takes.
// So a replay ends the session, however slow the store is, unless a rotation falls into that time: then the client
// is told to try again, and its next try decides. Only what this server has measured itself makes the time longer than a
// decision takes: a client that sends its request slowly does not. A virtual machine that was paused measures nothing, because its
// clocks stood still, but until its next poll the rotations of others are later than its own time. A server that has its store
// alone always decides.
func (i *Issuer) tooLate(began, replaced time.Time) error {
	if err := i.keys.Current(); err != nil {
		return err
	}
	waited, paused := i.pauses.Waited(began)
	now, poll := i.keys.Now(), i.keys.Poll()
	if behind := replaced.Sub(now); behind > poll {
		waited, paused = max(waited, behind), true
	}
	if poll == 0 || !paused && waited <= maxDecision || replaced.Before(now.Add(-waited-poll)) {
		return nil
	}
	return &keystore.UnavailableError{
		Reason:     fmt.Sprintf("the request may have waited for %s, and its client may have gone on elsewhere", waited.Round(time.Millisecond)),
		RetryAfter: time.Second,
	}
}
