package serve

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/config"
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
			<-s.serving // what a reload changes is opened by then
			if !s.notify(s.manager.Reloading) {
				s.log.Info("the server is stopping, so the configuration is not read again")
				continue
			}
			s.reload(reload)
			s.notify(func() error { return s.manager.Ready(s.state()) })
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
