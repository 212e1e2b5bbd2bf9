package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestARequestThatMayHaveWaitedInASocketIsAsOldAsThePause, and any other as old as it looks. Time that the process runs is no
// pause, however long a request takes.
func TestARequestThatMayHaveWaitedInASocketIsAsOldAsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(Watch)
		want := func(read time.Time, waited time.Duration, paused bool) {
			t.Helper()
			if got, was := w.Waited(read); got != waited || was != paused {
				t.Errorf("waited %v, a pause %v; want %v, %v", got, was, waited, paused)
			}
		}
		began := time.Now()
		want(began, 0, false)
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		time.Sleep(10 * time.Second)
		want(began, 10*time.Second, false) // a request that is held open
		want(time.Now(), 0, false)
		cancel()
		synctest.Wait()
		time.Sleep(time.Hour)
		want(time.Now(), 0, false) // after Run nothing is measured

		// Without Run no one looks, as if the process did not run.
		w.Look()
		time.Sleep(5 * time.Second)
		want(time.Now(), 5*time.Second, true) // before Run has looked
		w.Look()
		time.Sleep(settle / 2)
		w.Look()
		want(time.Now(), 5*time.Second+settle/2, true)
		time.Sleep(2 * time.Second)
		want(time.Now(), 7500*time.Millisecond, true) // two pauses, one right after the other
		for range 2 * time.Second / tickEvery {
			time.Sleep(tickEvery)
			w.Look()
		}
		want(time.Now(), 0, false)
		want(time.Now().Add(-time.Second), 4*time.Second, true) // when the process had run for 1.5 s since the first of the two
		want(time.Now().Add(-time.Hour), time.Hour, true)       // it was read before the pause
	})
}

// TestPausesThatFollowOneAnotherHaveABound: a request is not hours old because the process was paused for a second again and again
// for hours. It is as old as the pauses in which it can have waited.
func TestPausesThatFollowOneAnotherHaveABound(t *testing.T) {
	for what, tt := range map[string]struct {
		runs, paused time.Duration
		least, most  time.Duration // of what a request waited that is read right after a pause
	}{
		"1 s in every 2 s":             {time.Second, time.Second, time.Second, 3250 * time.Millisecond},
		"faster than it is looked for": {240 * time.Millisecond, time.Second, 5 * time.Second, 6200 * time.Millisecond},
		"almost always":                {10 * time.Millisecond, 15 * time.Second, 75 * time.Second, 76 * time.Second},
		"long, and runs for long":      {10 * time.Second, 15 * time.Second, 15 * time.Second, 15250 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := new(Watch)
			w.Look()
			for began := time.Now(); time.Since(began) < time.Hour; {
				for left := tt.runs; left >= tickEvery; left -= tickEvery {
					time.Sleep(tickEvery)
					w.Look()
				}
				time.Sleep(tt.runs%tickEvery + tt.paused)
				w.Look()
				if waited, paused := w.Waited(time.Now()); time.Since(began) > 2*time.Minute && (!paused || waited < tt.least || waited > tt.most) {
					t.Fatalf("%s: waited %v, a pause %v", what, waited, paused)
				}
			}
		})
	}
}
