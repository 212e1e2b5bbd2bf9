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
		want(time.Now().Add(-time.Second), 9500*time.Millisecond, true)
		want(time.Now().Add(-time.Hour), time.Hour, true) // it was read before the pause
	})
}
