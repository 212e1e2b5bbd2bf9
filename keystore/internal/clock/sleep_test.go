package clock

import (
	"testing"
	"time"
)

// TestASuspensionIsNoticedAtOnce although the kernel is only asked after the wall clock has moved: after one long
// suspension, and after many short ones.
func TestASuspensionIsNoticedAtOnce(t *testing.T) {
	var s Sleep
	var slept, up time.Duration
	asked := 0
	suspended := func() time.Duration { asked++; return slept }
	wall := at(0)
	read := func() time.Duration { return s.read(wall, up, suspended) }
	run := func(d time.Duration) { wall, up = wall.Add(d), up+d }
	sleep := func(d time.Duration) { wall, slept = wall.Add(d), slept+d }
	for range 1000 {
		run(time.Second)
		read()
	}
	if asked != 1 {
		t.Errorf("the kernel was asked %d times while no clock moved", asked)
	}
	sleep(time.Hour)
	if got := read(); got != slept {
		t.Errorf("after an hour: %s", got)
	}
	for range 100 {
		run(time.Second)
		sleep(30 * time.Millisecond)
		if got := read(); slept-got >= sleepStep {
			t.Fatalf("after short suspensions: %s of %s", got, slept)
		}
	}
	wall = wall.Add(-2 * time.Hour) // an operator sets the wall clock back, and the machine is suspended later
	read()
	sleep(2 * time.Hour)
	if got := read(); got != slept {
		t.Errorf("after the wall clock was set back: %s of %s", got, slept)
	}
}
