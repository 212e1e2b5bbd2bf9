package clock

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Suspended returns how long this machine has been suspended since it booted. It takes two system calls.
func Suspended() time.Duration {
	var boot, monotonic unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil ||
		unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - monotonic.Nano())
}

// A Sleep tells what Suspended returns, for callers that ask with every token. It calls Suspended only if the wall clock
// has moved against the uptime since the last call. A suspension moves it, because the wall clock goes on in it and the
// uptime does not. A Sleep is safe for concurrent use. The zero value is ready.
type Sleep struct{ last atomic.Pointer[sleepReading] }

type sleepReading struct {
	apart time.Duration // the wall clock and the uptime, before slept was read
	slept time.Duration
}

// sleepStep is how far the wall clock may move before a Sleep asks. A shorter suspension is not noticed, nor are several
// that are shorter together.
const sleepStep = 100 * time.Millisecond

// Suspended returns how long this machine has been suspended since it booted. wall and up are the wall clock and the
// uptime of the process now.
func (s *Sleep) Suspended(wall time.Time, up time.Duration) time.Duration {
	return s.read(wall, up, Suspended)
}

func (s *Sleep) read(wall time.Time, up time.Duration, suspended func() time.Duration) time.Duration {
	apart := time.Duration(wall.UnixNano()) - up
	last := s.last.Load()
	if last == nil || (apart-last.apart).Abs() >= sleepStep {
		last = &sleepReading{apart, suspended()}
		s.last.Store(last)
	}
	return last.slept
}
