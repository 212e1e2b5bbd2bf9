package systemd

import (
	"context"
	"time"
)

// Watch tells systemd that the service is alive, each time that works returns nil, until ctx ends. works
// is asked twice within the time of the watchdog, and has half of it. Without a watchdog Watch only waits.
func (m *Manager) Watch(ctx context.Context, works func(context.Context) error, failed func(error)) error {
	every := m.Watchdog() / 2
	if every <= 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, every)
		err := works(bounded)
		cancel()
		if err == nil {
			err = m.Alive()
		}
		if err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
