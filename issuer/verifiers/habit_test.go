package verifiers

import (
	"math/rand/v2"
	"testing"
	"time"
)

const day = 24 * time.Hour

// repeat adds an interval until that much time has passed.
func (h *habit) repeat(interval, total time.Duration) {
	for range int(total / interval) {
		h.add(interval)
	}
}

// burst is a day with 20 visits in its first minute.
func (h *habit) burst() {
	h.repeat(3*time.Second, time.Minute)
	h.add(day - time.Minute)
}

// TestTheUsualIntervalIsThatInWhichTimePasses.
func TestTheUsualIntervalIsThatInWhichTimePasses(t *testing.T) {
	for _, tt := range []struct {
		name       string
		add        func(h *habit)
		least, top time.Duration
	}{
		{"nothing", func(*habit) {}, 0, 0},
		{"two visits at once", func(h *habit) { h.add(0) }, 0, 0},
		{"one interval", func(h *habit) { h.add(5 * time.Minute) }, 5 * time.Minute, 5 * time.Minute},
		{"regular", func(h *habit) { h.repeat(5*time.Minute, 30*day) }, 5 * time.Minute, 5 * time.Minute},
		{"a burst", func(h *habit) { h.repeat(3*time.Second, time.Minute) }, 3 * time.Second, 3 * time.Second},
		{"a burst, and a day later", func(h *habit) { h.burst() }, 23 * time.Hour, day},
		{"a burst every day", func(h *habit) {
			for range 20 {
				h.burst()
			}
		}, 23 * time.Hour, day},
		{"a burst of two hours every day", func(h *habit) {
			for range 20 {
				h.repeat(time.Second, 2*time.Hour)
				h.add(22 * time.Hour)
			}
		}, 22 * time.Hour, 22 * time.Hour},
		{"regular, and a week-end", func(h *habit) { h.repeat(5*time.Minute, 12*day); h.add(2 * day) }, 5 * time.Minute, 5 * time.Minute},
		{"office hours", func(h *habit) {
			for range 10 {
				h.repeat(5*time.Minute, 8*time.Hour)
				h.add(16 * time.Hour)
			}
		}, 16 * time.Hour, 16 * time.Hour},
		{"two processes", func(h *habit) {
			for range 30 {
				h.add(time.Hour)
				h.add(23 * time.Hour)
			}
		}, 23 * time.Hour, 23 * time.Hour},
		{"once a month", func(h *habit) { h.repeat(30*day, 365*day) }, maxInterval, maxInterval},
		{"a year of silence", func(h *habit) { h.repeat(5*time.Minute, 30*day); h.add(365 * day) }, maxInterval, maxInterval},
		{"daily, and three days of five minutes", func(h *habit) { h.repeat(day, 30*day); h.repeat(5*time.Minute, 80*time.Hour) }, 5 * time.Minute, 5 * time.Minute},
		{"daily, and a day of five minutes", func(h *habit) { h.repeat(day, 30*day); h.repeat(5*time.Minute, day) }, day, day},
		{"weekly, and a week of five minutes", func(h *habit) { h.repeat(7*day, 70*day); h.repeat(5*time.Minute, 7*day) }, 5 * time.Minute, 5 * time.Minute},
		{"five minutes, and five days of one", func(h *habit) { h.repeat(5*time.Minute, 30*day); h.repeat(day, 5*day) }, day, day},
	} {
		var h habit
		tt.add(&h)
		if got := h.usual(); got < tt.least || got > tt.top {
			t.Errorf("%s: the usual interval is %s, want %s to %s", tt.name, got, tt.least, tt.top)
		}
	}
}

// TestTwiceTheUsualIntervalCoversEachOfThem, if they differ by a half of it, and with bursts between them: a
// rotation that waits so long misses no visit.
func TestTwiceTheUsualIntervalCoversEachOfThem(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		mean := time.Duration(float64(time.Second) * float64(uint64(1)<<rnd.IntN(19)) * (1 + rnd.Float64()))
		var h habit
		for n := range 200 {
			gap := time.Duration(float64(mean) * (0.75 + rnd.Float64()/2))
			if n > 0 && 2*h.usual() < min(gap, 2*maxInterval)-time.Second {
				t.Errorf("the usual interval of %s is %s, and %s follows", mean, h.usual(), gap)
			}
			h.add(gap)
			if rnd.IntN(10) == 0 {
				h.repeat(mean/100, mean/20)
			}
		}
	}
}

// TestAHabitSurvivesItsRecord: what is stored gives the same interval, and is a possible record.
func TestAHabitSurvivesItsRecord(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		p := pinned{kids: &kidList{"a"}, last: time.Unix(1e9, 5)}
		for range rnd.IntN(60) {
			p.habit.add(time.Duration(1 << rnd.IntN(51)))
		}
		rec := p.record()
		again := rec.habit()
		if !rec.possible() || (again.usual()-p.habit.usual()).Abs() > p.habit.usual()/100+time.Second {
			t.Errorf("%s became %s in %+v", p.habit.usual(), again.usual(), rec)
		}
	}
}

// TestAVisitNeverGoesBack: visits that are noted in another order, a record of a time to come, and a jump of ten years.
func TestAVisitNeverGoesBack(t *testing.T) {
	now := moment{time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), time.Hour}
	after := func(m moment, d time.Duration) moment { return moment{m.at.Add(d), m.up + d} }
	kids := &kidList{"a"}
	p := pinned{}
	p.served(now, kids)
	p.served(after(now, 5*time.Minute), kids)
	p.served(after(now, time.Minute), kids)
	if !p.last.Equal(now.at.Add(5*time.Minute)) || p.habit.usual() != 5*time.Minute {
		t.Errorf("last %s, usual %s", p.last, p.habit.usual())
	}
	if !p.blocks("b", now, 5*time.Minute) {
		t.Error("a rotation does not wait for a verifier that came later than now")
	}
	later := moment{now.at.AddDate(10, 0, 0), now.up}
	if !p.blocks("b", later, 5*time.Minute) {
		t.Error("a rotation does not wait for a verifier since the clock was set")
	}
	later.up += time.Hour
	if p.blocks("b", later, 5*time.Minute) {
		t.Error("a rotation waits for a verifier that came an hour ago")
	}
	p.served(later, kids)
	if p.habit.usual() != maxInterval {
		t.Errorf("usual %s", p.habit.usual())
	}
	for range 2100 {
		later = after(later, 5*time.Minute)
		p.served(later, kids)
	}
	if p.habit.usual() != 5*time.Minute {
		t.Errorf("a week later: usual %s", p.habit.usual())
	}
}
