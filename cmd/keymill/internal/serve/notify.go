package serve

import (
	"log/slog"
	"sync"

	"keymill/cmd/keymill/internal/terminal"
)

// A notifier holds what systemd was told, and how that went.
type notifier struct {
	mu       sync.Mutex // also held while a message is sent, so that their order is that of the service's states
	stopping bool       // nothing follows that message

	messages, answers fault
}

// A fault is logged when it begins and when it ends.
type fault struct {
	mu    sync.Mutex
	lasts bool
}

// note logs that a fault begins with err, or that it ends.
func (f *fault) note(log *slog.Logger, err error, begins, ends string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && !f.lasts:
		log.Warn(begins, "error", terminal.OneLine(terminal.Plain(err)))
	case err == nil && f.lasts:
		log.Info(ends)
	}
	f.lasts = err != nil
}

// notify sends a message to systemd, unless the server is stopping. It reports whether the server goes on.
func (s *server) notify(message func() error) bool {
	s.notifier.mu.Lock()
	defer s.notifier.mu.Unlock()
	if s.notifier.stopping {
		return false
	}
	s.tell(message())
	return true
}

// notifyStop tells systemd that the server stops. No other state follows.
func (s *server) notifyStop() {
	s.notifier.mu.Lock()
	defer s.notifier.mu.Unlock()
	s.notifier.stopping = true
	s.tell(s.manager.Stopping())
}

// tell notes how a message to systemd went. A fault never ends the server: systemd itself restarts a service that it does
// not hear of.
func (s *server) tell(err error) {
	s.notifier.messages.note(s.log, err, "cannot notify systemd", "systemd is notified again")
}

// alive notes whether the server answers itself, which is asked only under a watchdog.
func (s *server) alive(err error) {
	s.notifier.answers.note(s.log, err, "the server does not answer its own request; the watchdog of systemd restarts it if that lasts",
		"the server answers its own requests again")
}
