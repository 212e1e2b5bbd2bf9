package webhook

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnEventIsTriedForThreeDays checks that the pauses grow to an hour, that the id stays the
// same, that the last try is made at the end, and that the drop is audited.
func TestAnEventIsTriedForThreeDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(receivedTry) (int, http.Header) { return 500, nil }
		w.run()
		time.Sleep(10 * time.Minute)
		left := time.Now()
		id := w.leave("session.replayed")
		time.Sleep(71 * time.Hour)
		if len(w.waiting()) != 1 || len(w.drops()) != 0 {
			t.Errorf("after 71 hours %d wait, dropped %v", len(w.waiting()), w.drops())
		}
		time.Sleep(2 * time.Hour)
		tries := w.receiver.tries(id)
		if len(w.waiting()) != 0 || !strings.Contains(w.drops()[id], "500") {
			t.Errorf("after three days %d wait, dropped %v", len(w.waiting()), w.drops())
		}
		time.Sleep(24 * time.Hour)
		if n := len(w.receiver.tries("")); n != len(tries) {
			t.Errorf("%d tries after the drop", n-len(tries))
		}
		last := left
		for n, want := range []time.Duration{0, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, time.Hour} {
			wait := tries[n].at.Sub(last)
			if slack := want/4 + 2*time.Second; wait < want || wait > want+slack {
				t.Errorf("try %d came after %s, want %s and up to %s more", n+1, wait, want, slack)
			}
			last = tries[n].at
		}
		if end := tries[len(tries)-1].at.Sub(left); end < 72*time.Hour || end > 72*time.Hour+5*time.Second {
			t.Errorf("the last try came after %s", end)
		}
		if len(tries) < 60 || len(tries) > 80 {
			t.Errorf("%d tries in three days", len(tries))
		}
		// A receiver that is down for days does not fill the log.
		if n := strings.Count(w.log.String(), `"WARN"`); n < 10 || n > len(tries) {
			t.Errorf("%d warnings", n)
		}
	})
}

// TestARestartTriesAllEventsAgain, also those that are three days old: the receiver may have
// been repaired together with the server.
func TestARestartTriesAllEventsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(d receivedTry) (int, http.Header) { return 500, nil }
		repaired, hopeless := w.leave("session.revoked"), w.leave("user.revoked")
		w.run()
		time.Sleep(20 * time.Hour)
		w.stop()
		before := len(w.receiver.tries(repaired))
		time.Sleep(60 * time.Hour)
		w.receiver.answer = func(d receivedTry) (int, http.Header) {
			if d.id == hopeless {
				return 503, nil
			}
			return 200, nil
		}
		w.restart()
		time.Sleep(5 * time.Second)
		if n := len(w.receiver.tries(repaired)); n != before+1 {
			t.Errorf("%d tries before, %d after", before, n)
		}
		if drops := w.drops(); len(w.waiting()) != 0 || len(drops) != 1 || drops[hopeless] == "" {
			t.Errorf("%d wait, dropped %v", len(w.waiting()), drops)
		}
	})
}

// TestAFailingEventDoesNotDelayOthers, whether the receiver refuses it or does not answer.
func TestAFailingEventDoesNotDelayOthers(t *testing.T) {
	for name, status := range map[string]int{"fails": 500, "does not answer": 0, "refuses": 403} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "")
			w.receiver.answer = func(d receivedTry) (int, http.Header) {
				if d.kind == "session.replayed" {
					return status, nil
				}
				return 200, nil
			}
			w.run()
			bad := []string{w.leave("session.replayed"), w.leave("session.replayed")}
			slowest := time.Duration(0)
			for range 100 {
				time.Sleep(37 * time.Second)
				left := time.Now()
				id := w.leave("session.revoked")
				for slices.Contains(w.waiting(), id) {
					time.Sleep(100 * time.Millisecond)
				}
				slowest = max(slowest, time.Since(left))
			}
			// It waits for both failing events, each of which takes fifteen seconds.
			if limit := 35 * time.Second; slowest > limit || status != 0 && slowest > 4*time.Second {
				t.Errorf("%s: another event waited for %s", name, slowest)
			}
			if got := w.waiting(); !slices.Equal(got, bad) {
				t.Errorf("%s: %v wait", name, got)
			}
			if log := w.log.String(); status == 0 && !strings.Contains(log, "no answer within 15s") {
				t.Errorf("%s: the log is %s", name, log)
			}
		})
	}
}

// TestAReceiverThatIsDownGetsOneTryASecond, one at a time, until it accepts an event. Then all
// events arrive.
func TestAReceiverThatIsDownGetsOneTryASecond(t *testing.T) {
	const events = 40
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		var up atomic.Bool
		w.receiver.answer = func(receivedTry) (int, http.Header) {
			if up.Load() {
				return 200, nil
			}
			return 502, nil
		}
		for range events {
			w.leave("session.revoked")
		}
		w.run()
		time.Sleep(10 * time.Minute)
		tries := w.receiver.tries("")
		if most := w.receiver.mostAtOnce(); most > 4 {
			t.Errorf("%d tries ran in parallel", most)
		}
		if limit := 600 + maxParallel; len(tries) > limit || len(tries) < events*2 {
			t.Errorf("%d tries in ten minutes", len(tries))
		}
		for n := maxParallel; n < len(tries); n++ {
			if gap := tries[n].at.Sub(tries[n-1].at); gap < failurePause {
				t.Fatalf("tries %d and %d are %s apart", n, n+1, gap)
			}
		}
		if n := strings.Count(w.log.String(), `"WARN"`); n == 0 || n > 11 {
			t.Errorf("%d warnings in ten minutes", n)
		}
		up.Store(true)
		time.Sleep(76 * time.Minute) // an hour, a quarter of it, and the rest
		if n := len(w.waiting()); n != 0 {
			t.Errorf("%d events still wait", n)
		}
		if log := w.log.String(); !strings.Contains(log, "accepts events again") {
			t.Errorf("the recovery is not logged")
		}
		began := w.receiver.startOver()
		for range events {
			w.leave("session.revoked")
		}
		synctest.Wait()
		for len(w.waiting()) > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a working receiver got %d events in %s", events, took)
		}
		if most := w.receiver.mostAtOnce(); most != 4 {
			t.Errorf("%d tries ran in parallel", most)
		}
	})
}

// TestAReceiverThatAnswers410GetsOneTryASecond, although each try is of another event.
func TestAReceiverThatAnswers410GetsOneTryASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(receivedTry) (int, http.Header) { return 410, nil }
		for range 30 {
			w.leave("session.revoked")
		}
		w.run()
		time.Sleep(2 * time.Minute)
		tries := w.receiver.tries("")
		if len(tries) != 30 || len(w.drops()) != 30 || len(w.waiting()) != 0 {
			t.Errorf("%d tries, %d drops, %d wait", len(tries), len(w.drops()), len(w.waiting()))
		}
		for n := maxParallel; n < len(tries); n++ {
			if gap := tries[n].at.Sub(tries[n-1].at); gap < failurePause {
				t.Fatalf("tries %d and %d are %s apart", n, n+1, gap)
			}
		}
	})
}

// TestLostEventsAreLogged with their number, and the decisions succeed.
func TestLostEventsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.fill(10_000)
		w.store.Close()
		w.open("")
		w.receiver.answer = func(receivedTry) (int, http.Header) { return 500, nil }
		w.run()
		synctest.Wait()
		w.logout(3)
		time.Sleep(2 * time.Minute)
		if log := w.log.String(); strings.Count(log, "events were lost") != 1 || !strings.Contains(log, `"lost":3,"waiting":10000`) {
			t.Errorf("the lost events are not logged")
		}
	})
}

// TestRetryAfterIsRespected for up to an hour by the event itself, and for up to a minute by
// the others.
func TestRetryAfterIsRespected(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "86400": time.Hour, "-5": 0, "soon": 0, "99999999999999999999": 0,
		"Sat, 01 Jan 2000 00:10:00 GMT": 10 * time.Minute, "Fri, 31 Dec 1999 23:59:00 GMT": 0,
	} {
		if got := parseRetryAfter(value, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(d receivedTry) (int, http.Header) {
			if d.kind == "session.replayed" && d.tries == 1 {
				return 429, http.Header{"Retry-After": {"120"}}
			}
			return 200, nil
		}
		w.run()
		limited := w.leave("session.replayed")
		time.Sleep(5 * time.Second)
		other := w.leave("session.revoked")
		time.Sleep(5 * time.Minute)
		first := w.receiver.tries(limited)[0].at
		for id, want := range map[string]time.Duration{limited: 2 * time.Minute, other: time.Minute} {
			list := w.receiver.tries(id)
			if got := list[len(list)-1].at.Sub(first); got < want || got > want+want/4+2*time.Second {
				t.Errorf("arrived after %s, want %s", got, want)
			}
		}
	})
}

// TestADamagedEventIsSetAside: it is neither sent nor dropped, and blocks no other.
func TestADamagedEventIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.leaveRaw("20000101T000000000000000Z-0", "{")
		good := w.leave("session.revoked")
		w.run()
		time.Sleep(10 * time.Second)
		if tries := w.receiver.tries(""); len(tries) != 1 || tries[0].id != good {
			t.Errorf("sent %+v", tries)
		}
		if drops := w.drops(); len(w.waiting()) != 0 || len(drops) != 0 {
			t.Errorf("waiting %v, dropped %v", w.waiting(), drops)
		}
	})
}

// TestThePauseGrowsAndEndsAtTheLastTry at the end of the three days.
func TestThePauseGrowsAndEndsAtTheLastTry(t *testing.T) {
	for _, tt := range []struct {
		tries            int
		asked, left      time.Duration
		shortest, longer time.Duration
	}{
		{1, 0, time.Hour, 5 * time.Second, 1250 * time.Millisecond},
		{5, 0, 72 * time.Hour, time.Hour, 15 * time.Minute},
		{1 << 40, 0, 72 * time.Hour, time.Hour, 15 * time.Minute},
		{1, time.Minute, time.Hour, time.Minute, 15 * time.Second},
		{9, 0, time.Minute, time.Minute, 0},               // the last try, at the end of the three days
		{9, 0, -time.Minute, time.Hour, 15 * time.Minute}, // past it, and the store could not delete the event
		{9, 0, 0, time.Hour, 15 * time.Minute},            // the same
		{9, time.Hour, time.Second, time.Second, 0},       // although the receiver asks for more
		{2, time.Second, time.Hour, 30 * time.Second, 7500 * time.Millisecond},
	} {
		seen := map[string]bool{}
		for range 100 {
			got := pauseAfter(tt.tries, tt.asked, tt.left)
			if got < tt.shortest || got > tt.shortest+tt.longer {
				t.Errorf("%+v: %s", tt, got)
			}
			seen[fmt.Sprint(got)] = true
		}
		if (len(seen) > 1) != (tt.longer > 0) {
			t.Errorf("%+v: %d different pauses", tt, len(seen))
		}
	}
}

// TestTheAgeOfTheOldestEventIsKnown without a look at the store, and it is 0 once nothing waits.
func TestTheAgeOfTheOldestEventIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		var accepts atomic.Bool
		w.receiver.answer = func(receivedTry) (int, http.Header) {
			if accepts.Load() {
				return 200, nil
			}
			return 500, nil
		}
		is := func(least, most time.Duration) {
			t.Helper()
			if age := w.sender.Oldest(); age < least || age > most {
				t.Errorf("the age is %v, want %v to %v", age, least, most)
			}
		}
		is(0, 0)
		w.leave("session.replayed")
		w.run()
		time.Sleep(time.Hour)
		w.leave("session.replayed")
		time.Sleep(time.Minute)
		is(time.Hour+time.Minute-time.Second, time.Hour+time.Minute+time.Second)
		accepts.Store(true)
		time.Sleep(2 * time.Hour)
		is(0, 0)
	})
}
