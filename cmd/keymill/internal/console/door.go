package console

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"
)

const (
	linkTime    = time.Minute
	maxAttempts = 10 // wrong codes
)

// A door lets one browser in. Each secret has at least 128 random bits (rand.Text).
type door struct {
	code   string // in the link
	prefix string // of the paths of all pages
	cookie string
	opened time.Time
	done   chan struct{} // closed when the code was used

	mu    sync.Mutex // guards the fields below
	used  bool
	wrong int
}

func newDoor(now time.Time) *door {
	return &door{code: rand.Text(), prefix: rand.Text(), cookie: rand.Text(), opened: now, done: make(chan struct{})}
}

// link returns the link for the terminal. Browsers keep the fragment to themselves.
func (d *door) link(origin string) string { return origin + "/login#" + d.code }

// What is wrong with a code. All of them say what to do.
const (
	again       = " End the console in its terminal with Ctrl-C and start it again for a new link."
	linkUsed    = "This link was used already." + again
	linkExpired = "This link has expired: it works for 60 seconds." + again
	linkClosed  = "Too many wrong codes were sent, so the link no longer works." + again
	wrongCode   = "This is not the code of this console. Copy the whole link from the terminal in which the console runs."
)

// enter takes the code if it is right, in time, and was not used before. Otherwise it says what is wrong.
func (d *door) enter(code string, now time.Time) (problem string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.used:
		return linkUsed
	case now.Sub(d.opened) >= linkTime:
		return linkExpired
	case d.wrong >= maxAttempts:
		return linkClosed
	case !equal(code, d.code):
		d.wrong++
		return wrongCode
	}
	d.used = true
	close(d.done)
	return ""
}

// wait returns true when the link has expired, and false when it was used or ctx has ended.
func (d *door) wait(ctx context.Context) bool {
	select {
	case <-d.done:
	case <-ctx.Done():
	case <-time.After(linkTime):
		return true
	}
	return false
}

// equal compares secrets in constant time.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
