package systemd

import (
	"context"
	"time"
)

// leastEvery bounds how often a service is asked, whatever the time of the watchdog is.
const leastEvery = 10 * time.Millisecond

// Watch tells systemd that the service is alive, each time that works returns nil, until ctx ends. works
// is asked twice within the time of the watchdog, and has half of it. worked gets each result of works, and told each one of
// Alive. Without a watchdog Watch only waits.
func (m *Manager) Watch(ctx context.Context, works func(context.Context) error, worked, told func(error)) error {
	if m.Watchdog() <= 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	every := max(m.Watchdog()/2, leastEvery)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, every)
		err := works(bounded)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		worked(err)
		if err == nil {
			told(m.Alive())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
