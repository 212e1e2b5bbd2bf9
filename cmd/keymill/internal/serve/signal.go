package serve

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// catchSignals returns a context that ends with ctx or at the first signal that stops the
// server. Signals are caught until the process ends:
//
//	                   first   second
//	SIGINT, SIGTERM    stop    end at once
//	SIGHUP             read the configuration again
//	SIGHUP with --dev  stop    nothing
//
// With --dev a SIGHUP says that the terminal was closed. If the process began with SIGHUP
// ignored, as under nohup, a trial server goes on ignoring it.
func (s *server) catchSignals(ctx context.Context, reload func() (*config.Config, error)) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	ends, hangups := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGINT, syscall.SIGTERM)
	switch {
	case !s.config.Dev:
		signal.Notify(hangups, syscall.SIGHUP)
	case !signal.Ignored(syscall.SIGHUP):
		signal.Notify(ends, syscall.SIGHUP)
	}
	go s.stopAt(ends, stop)
	go func() {
		// Not in the goroutine that stops the server, because reading the file may block.
		for range hangups {
			s.reload(reload)
		}
	}()
	return ctx, func() { stop(nil) }
}

func (s *server) stopAt(ends <-chan os.Signal, stop context.CancelCauseFunc) {
	name := signalName(<-ends)
	s.log.Info("stopping", "signal", name)
	stop(errors.New(name)) // the cause, which recordStop reads
	for sig := range ends {
		if sig == syscall.SIGHUP {
			continue // a terminal and its shell both send one
		}
		s.log.Warn("a second signal ends the process at once", "signal", signalName(sig))
		s.queue.Close()
		die(sig.(syscall.Signal))
	}
}

// die ends the process by sig, so that its parent sees why it ended.
func die(sig syscall.Signal) {
	signal.Reset(sig)
	syscall.Kill(os.Getpid(), sig)
	// The first process of a container gets no signal whose action is the default.
	time.Sleep(time.Second)
	os.Exit(128 + int(sig))
}

func signalName(sig os.Signal) string { return unix.SignalName(sig.(syscall.Signal)) }

// reload reads the configuration again and applies log.level, the only setting that can
// change while the server runs. After an error nothing changes.
func (s *server) reload(read func() (*config.Config, error)) {
	next, err := read()
	if err != nil {
		attrs := []any{"error", terminal.Plain(err)}
		if hint := terminal.HintOf(err); hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		s.log.Error("cannot read the configuration again; no setting changes", attrs...)
		return
	}
	before := s.level.Level()
	s.level.Set(next.LogLevel)
	// The lines are visible at the old level or at the new one.
	log := slog.New(newHandler(s.config.LogFormat, min(before, next.LogLevel), s.queue))
	log.Info("read the configuration again", "log_level", strings.ToLower(next.LogLevel.String()))
	changed := slices.DeleteFunc(s.config.Changed(next), func(key string) bool { return key == "log.level" })
	if len(changed) > 0 {
		log.Warn("changed settings need a restart", "settings", strings.Join(changed, " "))
	}
	s.recordReload(strings.ToLower(next.LogLevel.String()), changed)
}
