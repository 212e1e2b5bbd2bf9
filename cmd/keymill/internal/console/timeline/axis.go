package timeline

import "time"

// A tick is a place on the axis.
type tick struct {
	at    time.Time
	label string
}

// maxTicks leaves a label about 90 units.
const maxTicks = 8

const day = 24 * time.Hour

// steps are the distances of ticks, in order. Longer ones are whole months.
func steps() []time.Duration {
	return []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
		day, 2 * day, 7 * day, 14 * day,
	}
}

// ticks returns the ticks from a time to another, in UTC, at round times.
func ticks(from, to time.Time) []tick {
	from, to = from.UTC(), to.UTC()
	for _, step := range steps() {
		if to.Sub(from)/maxTicks <= step {
			return evenTicks(from, to, step)
		}
	}
	for _, months := range []int{1, 2, 3, 6, 12, 24, 60, 120, 600, 1200} {
		if to.Sub(from)/maxTicks <= time.Duration(months)*30*day {
			return monthTicks(from, to, months)
		}
	}
	return nil
}

// week shifts the multiples of a step, which Truncate counts from Monday, January 1 of year 1. So ticks of one or two weeks
// are on Mondays, and those of two weeks on January 1, 2001. A Duration from there could overflow.
const week = 7 * day

func evenTicks(from, to time.Time, step time.Duration) []tick {
	at := from.Add(-week).Truncate(step).Add(week)
	for at.Before(from) {
		at = at.Add(step)
	}
	var list []tick
	for ; !at.After(to); at = at.Add(step) {
		midnight := at.Equal(at.Truncate(day))
		form := "2 Jan"
		switch {
		case step >= day && len(list) == 0:
			form = "2 Jan 2006"
		case step >= day || midnight:
		case step < time.Minute:
			form = "15:04:05"
		default:
			form = "15:04"
		}
		if len(list) == 0 && step < day && !midnight {
			form = "2 Jan " + form
		}
		list = append(list, tick{at, at.Format(form)})
	}
	return list
}

func monthTicks(from, to time.Time, months int) []tick {
	n := from.Year()*12 + int(from.Month()) - 1 // months since year 0
	n -= n % months
	var list []tick
	for {
		at := time.Date(n/12, time.Month(n%12+1), 1, 0, 0, 0, 0, time.UTC)
		if at.After(to) {
			return list
		}
		if !at.Before(from) {
			list = append(list, tick{at, at.Format("Jan 2006")})
		}
		n += months
	}
}
