package serve

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/connections"
)

// TestTheWatchdogNoticesAServerThatHangs: one that does not accept, and one whose handlers do not answer. It is content
// with every answer, because /healthz says nothing about the store.
func TestTheWatchdogNoticesAServerThatHangs(t *testing.T) {
	t.Parallel()
	s := &server{create: true, config: devConfig(t, filepath.Join(t.TempDir(), "data")), log: slog.New(slog.DiscardHandler)}
	s.queue = newLogQueue(io.Discard, func(int64) []byte { return nil })
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { s.close(); s.queue.Close() }()
	asked, gate := make(chan struct{}, 1), make(chan struct{})
	for _, tt := range []struct {
		handler http.HandlerFunc // nil: no server
		want    string
	}{
		{s.endpoints.Public().ServeHTTP, ""},
		{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMisdirectedRequest) }, ""},
		{func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-gate }, "gives no answer"},
		{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "gives no answer"},
		{nil, "accepts no connection"},
	} {
		s.conns = connections.New(s.public, connections.Config{Max: 10, Log: s.log})
		if tt.handler != nil {
			h := &http.Server{Handler: tt.handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
			go h.Serve(s.conns)
		}
		patience := time.Minute // bounds a hang of the test
		if tt.handler == nil {
			patience = 50 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ended := make(chan error, 1)
		go func() { ended <- s.works(ctx) }()
		var err error
		select {
		case <-asked: // its patience ends when the handler hangs
			cancel()
			err = <-ended
		case err = <-ended:
			cancel()
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	close(gate)
}
