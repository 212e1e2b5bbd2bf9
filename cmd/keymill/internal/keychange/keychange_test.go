package keychange

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// A fake answers as a server does whose state a test changes between two requests.
type fake struct {
	mu        sync.Mutex
	active    string
	reserve   string // its kid; it signs after a flush
	behind    []api.BehindItem
	verifiers []api.Verifier
	refuse    []any // answers to the next requests to rotate; after them, only those who are behind refuse
	drop      int   // so many next answers are lost, after the request was decided
	rotations int
	requests  []string
	seen      func(f *fake, n int) // called before the nth request, from 1
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/admin/v1/"))
	if f.seen != nil {
		f.seen(f, len(f.requests))
	}
	var answer any
	status := http.StatusOK
	switch r.URL.Path {
	case "/admin/v1/keys":
		reach := &api.Reach{Pinned: 2, Served: 2 - len(f.behind), Behind: f.behind}
		answer = []api.Key{{KID: f.active, Alg: "EdDSA", Stage: "active"}, {KID: "next-" + f.active, Alg: "EdDSA", Stage: "spare", Reach: reach},
			{KID: "rsa", Alg: "RS256", Stage: "active"}}
		if f.reserve != "" {
			answer = append(answer.([]api.Key), api.Key{KID: f.reserve, Alg: "EdDSA", Stage: "reserve"})
		}
	case "/admin/v1/verifiers":
		answer = f.verifiers
	case "/admin/v1/keys/rotate":
		if len(f.refuse) > 0 {
			status, answer = http.StatusConflict, f.refuse[0]
			f.refuse = f.refuse[1:]
			break
		}
		if len(f.behind) > 0 {
			status, answer = http.StatusConflict, notServed(f.behind[0].Name)
			break
		}
		f.rotations++
		previous := f.active
		f.active = "next-" + f.active
		if f.reserve != "" {
			f.active, f.reserve = f.reserve, ""
		}
		answer = api.Rotation{Alg: "EdDSA", KID: f.active, Previous: previous, Spare: "next-" + f.active}
	}
	if f.drop > 0 && (r.Method == http.MethodPost || f.rotations == 0) {
		f.drop--
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(answer)
}

func (f *fake) asked(request string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r == request {
			n++
		}
	}
	return n
}

func notServed(names string) any {
	return api.Problem{Code: "not_served", Detail: names + " was not served the spare"}
}

// rotate runs a command that waits, and returns what it wrote on standard error.
func rotate(t *testing.T, f *fake, wait time.Duration) (api.Rotation, string, error) {
	t.Helper()
	var errs bytes.Buffer
	r := Rotation{Server: adminapitest.Serve(t, f), Alg: "EdDSA", Wait: wait, Errs: &errs}
	done, err := r.Run(t.Context())
	return done, errs.String(), err
}

// TestARotationWaitsForAVerifierByName, looks at the keys in the meantime, and does not write a line into the
// server's log each second by asking again.
func TestARotationWaitsForAVerifierByName(t *testing.T) {
	t.Parallel()
	early, late := time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC), time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	f := &fake{active: "k", behind: []api.BehindItem{
		{Name: "a", Waited: true, WaitedUntil: &early}, {Name: "orders-api", Waited: true, WaitedUntil: &late}, {Name: "b", Waited: true, WaitedUntil: &early}, {Name: "gone"},
	}}
	f.seen = func(f *fake, n int) {
		if n == 6 {
			f.behind = nil
		}
	}
	done, errs, err := rotate(t, f, time.Minute)
	if err != nil || done.KID != "next-k" || f.rotations != 1 {
		t.Fatalf("%+v, %v, %d rotations", done, err, f.rotations)
	}
	if errs != "waiting: for verifiers that were not served the spare (at most until 2026-11-30T08:00:00Z): a, orders-api, b\n" {
		t.Errorf("standard error: %q", errs)
	}
	if n := f.asked("POST keys/rotate"); n != 2 {
		t.Errorf("asked %d times to rotate, want 2: %q", n, f.requests)
	}
}

// TestTheRefusalStaysTheSameWhenTheTimeIsOver, with the ways that are left.
func TestTheRefusalStaysTheSameWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(time.Hour)
	for what, refused := range map[string]any{
		"not_served": notServed("orders-api"),
		"not_ready":  api.NotReadyProblem{Problem: api.Problem{Code: "not_ready", Detail: "too early"}, At: &at},
	} {
		f := &fake{active: "k", refuse: slices.Repeat([]any{refused}, 100), behind: []api.BehindItem{{Name: "orders-api", Waited: true}}}
		begun := time.Now()
		_, _, err := rotate(t, f, 1500*time.Millisecond)
		if took := time.Since(begun); took < 1500*time.Millisecond || took > 20*time.Second {
			t.Errorf("%s: took %v", what, took)
		}
		f.refuse = []any{refused}
		_, _, alone := rotate(t, f, 0)
		if err == nil || alone == nil || err.Error() != alone.Error() || terminal.HintOf(err) == "" {
			t.Errorf("%s: %v, without waiting %v", what, err, alone)
		}
		for _, way := range []string{"wait with", "--wait 1h", "--force"} {
			if !strings.Contains(terminal.HintOf(err), way) {
				t.Errorf("%s: the hint has no %q: %s", what, way, terminal.HintOf(err))
			}
		}
		if f.rotations != 0 {
			t.Errorf("%s: rotated", what)
		}
	}
}

// TestALostAnswerDoesNotRotateTwice: the server rotated, and the connection ended before its answer.
func TestALostAnswerDoesNotRotateTwice(t *testing.T) {
	t.Parallel()
	f := &fake{active: "k"}
	f.seen = func(f *fake, n int) {
		if f.requests[n-1] == "POST keys/rotate" {
			f.drop = 1
		}
	}
	done, errs, err := rotate(t, f, time.Minute)
	if err != nil || f.rotations != 1 || done.KID != "next-k" || done.Previous != "k" || done.Spare != "next-next-k" {
		t.Errorf("%+v, %v, %d rotations", done, err, f.rotations)
	}
	if strings.Contains(errs, "warning") {
		t.Errorf("standard error: %q", errs)
	}
}

// TestARotationThatIsSeenLateIsNotCalledThatOfAnother: the commit went on after the connection was lost.
func TestARotationThatIsSeenLateIsNotCalledThatOfAnother(t *testing.T) {
	t.Parallel()
	f := &fake{active: "k"}
	f.seen = func(f *fake, n int) {
		switch n {
		case 3: // the request to rotate
			f.drop = 1
		case 4:
			f.active = "k"
		case 5:
			f.active = "next-k"
		}
	}
	done, errs, err := rotate(t, f, time.Minute)
	if err != nil || f.rotations != 1 || done.KID != "next-k" || strings.Contains(errs, "warning") {
		t.Errorf("%+v, %v, %d rotations, %q", done, err, f.rotations, errs)
	}
}

// TestAServerThatRestartsIsWaitedFor, but one that is not there at the beginning is an error at once.
func TestAServerThatRestartsIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := &fake{active: "k"}
	f.seen = func(f *fake, n int) {
		if n == 2 {
			f.drop = 2
		}
	}
	done, errs, err := rotate(t, f, time.Minute)
	if err != nil || f.rotations != 1 || done.KID != "next-k" || !strings.Contains(errs, "the server does not answer") {
		t.Errorf("%+v, %v, %d rotations, %q", done, err, f.rotations, errs)
	}
	begun := time.Now()
	if _, _, err := rotate(t, &fake{drop: 1}, time.Hour); err == nil || time.Since(begun) > time.Minute {
		t.Errorf("no server at the beginning: %v after %v", err, time.Since(begun))
	}
}

// TestAKeyThatAnotherRotatedIsNotRotatedAgain: the scheduled rotation, for example.
func TestAKeyThatAnotherRotatedIsNotRotatedAgain(t *testing.T) {
	t.Parallel()
	f := &fake{active: "k", behind: []api.BehindItem{{Name: "a", Waited: true}}}
	f.seen = func(f *fake, n int) {
		if n == 4 {
			f.active = "scheduled"
		}
	}
	done, errs, err := rotate(t, f, time.Minute)
	if err != nil || f.rotations != 0 || done.KID != "scheduled" || !strings.Contains(errs, "did not rotate") {
		t.Errorf("%+v, %v, %d rotations, %q", done, err, f.rotations, errs)
	}
}

// TestARefusalThatDoesNotPassEndsTheWait at once.
func TestARefusalThatDoesNotPassEndsTheWait(t *testing.T) {
	t.Parallel()
	f := &fake{active: "k", refuse: []any{api.Problem{Code: "invalid_request", Detail: "no room"}}}
	if _, _, err := rotate(t, f, time.Hour); err == nil || err.Error() != "no room" {
		t.Error(err)
	}
}

// TestAFlushWaitsForAReserve, and goes on if the schedule rotates in the meantime: that flushes nothing. It flushes once,
// also if the answer is lost.
func TestAFlushWaitsForAReserve(t *testing.T) {
	t.Parallel()
	none := api.Problem{Code: "no_reserve", Detail: "EdDSA has no reserve"}
	for what, seen := range map[string]func(f *fake, n int){
		"the schedule rotates": func(f *fake, n int) {
			if n == 4 {
				f.active = "scheduled"
			}
		},
		"a lost answer": func(f *fake, n int) {
			if f.requests[n-1] == "POST keys/rotate" && f.reserve != "" {
				f.drop = 1
			}
		},
	} {
		f := &fake{active: "k"}
		f.seen = func(f *fake, n int) {
			if seen(f, n); n == 6 {
				f.reserve = "reserve"
			}
			if f.refuse = nil; f.reserve == "" { // also if a slow machine asks early
				f.refuse = []any{none}
			}
		}
		var errs bytes.Buffer
		r := Rotation{Server: adminapitest.Serve(t, f), Alg: "EdDSA", Flush: true, Wait: time.Minute, Errs: &errs}
		done, err := r.Run(t.Context())
		if err != nil || done.KID != "reserve" || f.rotations != 1 || strings.Contains(errs.String(), "warning") {
			t.Errorf("%s: %+v, %v, %d rotations, %q", what, done, err, f.rotations, errs.String())
		}
	}
	f := &fake{active: "k", refuse: []any{none}}
	r := Rotation{Server: adminapitest.Serve(t, f), Alg: "EdDSA", Flush: true, Errs: io.Discard}
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(terminal.HintOf(err), "--wait 1m") {
		t.Errorf("without waiting: %v, hint %q", err, terminal.HintOf(err))
	}
}

// TestAnInterruptedWaitRotatesNothing and says so.
func TestAnInterruptedWaitRotatesNothing(t *testing.T) {
	t.Parallel()
	f := &fake{active: "k", refuse: slices.Repeat([]any{notServed("a")}, 100), behind: []api.BehindItem{{Name: "a", Waited: true}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.seen = func(_ *fake, n int) {
		if n == 4 { // it has been refused, and looks at the keys in the meantime
			cancel()
		}
	}
	r := Rotation{Server: adminapitest.Serve(t, f), Alg: "EdDSA", Wait: time.Hour, Errs: io.Discard}
	if _, err := r.Run(ctx); err == nil || err.Error() != "interrupted; the key was not rotated" || f.rotations != 0 {
		t.Errorf("%v, %d rotations after %q", err, f.rotations, f.requests)
	}
	if _, err := r.Run(ctx); err == nil || err.Error() != "interrupted; the key was not rotated" {
		t.Errorf("before the first answer: %v", err)
	}
}

// TestARevokedKeyIsFollowedUntilNoPinnedVerifierHoldsIt, under each of its kids, and over a restart of the server.
func TestARevokedKeyIsFollowedUntilNoPinnedVerifierHoldsIt(t *testing.T) {
	t.Parallel()
	came := time.Date(2026, 11, 28, 20, 0, 0, 0, time.UTC)
	served := func(name string, kids ...string) api.Verifier {
		return api.Verifier{Name: name, Last: &came, Served: kids}
	}
	f := &fake{verifiers: []api.Verifier{served("a", "dead", "k"), served("b", "twin"), served("c", "k"), served("late", "dead")}}
	f.seen = func(f *fake, n int) {
		switch n {
		case 2:
			f.verifiers = []api.Verifier{served("a", "k"), served("b", "twin"), served("c", "k"), served("late", "dead")}
		case 3:
			f.drop = 2 // the client repeats a request of a connection that was open before
		case 5:
			f.verifiers = []api.Verifier{served("a", "k"), served("c", "k"), served("late", "k")}
		}
	}
	var out, errs bytes.Buffer
	w := Watch{Server: adminapitest.Serve(t, f), Out: &out, Errs: &errs, Revoked: api.Revocation{
		KID: "dead", Also: []string{"twin"}, Holders: []api.Holder{{Name: "a"}, {Name: "b"}}}}
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "a was served a set without it, last at 2026-11-28T20:00:00Z\nb was removed\n" +
		"late was served a set without it, last at 2026-11-28T20:00:00Z\nno pinned verifier holds the key\n"
	if out.String() != want {
		t.Errorf("printed:\n%swant:\n%s", out.String(), want)
	}
	if !strings.Contains(errs.String(), "waiting: for b, late\n") || !strings.Contains(errs.String(), "does not answer") {
		t.Errorf("standard error: %q", errs.String())
	}
}

// TestAnInterruptedWatchSaysHowToLookAgain, in one line with printable names.
func TestAnInterruptedWatchSaysHowToLookAgain(t *testing.T) {
	t.Parallel()
	f := &fake{verifiers: []api.Verifier{{Name: "a", Served: []string{"dead key"}}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.seen = func(_ *fake, n int) {
		if n == 2 {
			cancel()
		}
	}
	w := Watch{Server: adminapitest.Serve(t, f), Out: io.Discard, Errs: io.Discard, Revoked: api.Revocation{KID: "dead key"}}
	err := w.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "the key is revoked, and may still be held by a") ||
		terminal.HintOf(err) != "to look again: keymill verifier list --holding 'dead key'" {
		t.Errorf("%v, hint %q", err, terminal.HintOf(err))
	}
}

// TestNoNameReachesATerminalRaw, whatever a server sends.
func TestNoNameReachesATerminalRaw(t *testing.T) {
	t.Parallel()
	const hostile = "\x1b[2J<script>\u202e\r\n"
	f := &fake{active: "k", refuse: slices.Repeat([]any{notServed(hostile)}, 100), behind: []api.BehindItem{{Name: hostile, Waited: true}}}
	_, errs, err := rotate(t, f, time.Second)
	var printed bytes.Buffer
	terminal.Report(&printed, err)
	came := time.Now()
	f = &fake{verifiers: []api.Verifier{{Name: hostile, Last: &came, Served: []string{"other"}}}}
	revoked := api.Revocation{KID: hostile, Holders: []api.Holder{{Name: hostile, Last: came}}, Observed: 2}
	w := Watch{Server: adminapitest.Serve(t, f), Out: &printed, Errs: &printed, Revoked: revoked}
	if err := w.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if err := PrintRevocation(&printed, revoked); err != nil {
		t.Error(err)
	}
	if text := errs + printed.String(); strings.ContainsAny(text, "\x1b\u202e\r") || !strings.Contains(text, `\x1b[2J<script>`) {
		t.Errorf("%q", text)
	}
}

// TestARotationWithoutASpareNamesNone: servers that share a store publish the next spare when the new key begins to sign.
func TestARotationWithoutASpareNamesNone(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Minute)
	for spare, want := range map[string]string{"": "-      published when that key begins to sign", "third": "third  published, signs next"} {
		var out bytes.Buffer
		if err := PrintRotation(&out, api.Rotation{Alg: "EdDSA", KID: "next", Previous: "first", Sign: &later, Spare: spare}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "spare:       "+want+"\n") {
			t.Errorf("%s", out.String())
		}
	}
}
