package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/endpoint/requestid"
)

// TestEveryLineOfAJSONLogIsJSON: those of a request with its ids, those that net/http writes about a panic
// and a connection, those of package log, and the error that ends the server.
func TestEveryLineOfAJSONLogIsJSON(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	var w faultyWriter
	s := &server{config: &config.Config{LogFormat: "json"}}
	s.level.Set(slog.LevelDebug)
	s.log, s.queue = newLog("json", &s.level, &w)
	slog.SetDefault(s.log)
	h := s.httpServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.log.InfoContext(requestid.Add(r).Context(), "from the handler")
		panic("two\nlines")
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	r, err := http.NewRequest("GET", "http://"+l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Request-Id", "id-1")
	if _, err := http.DefaultClient.Do(r); !errors.Is(err, io.EOF) {
		t.Errorf("a panic is answered: %v", err)
	}
	h.Close()
	<-served
	log.Print("from a library")
	s.reportEnd(terminal.WithHint(fmt.Errorf("line one\nline two: %w", os.ErrPermission), "type\nthis"))
	s.queue.Close()

	var all []string
	for text := range strings.Lines(w.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil || line["time"] == nil || line["level"] == nil {
			t.Errorf("a line that is not of the log: %q", text)
		}
		all = append(all, fmt.Sprint(line["level"], " ", line["msg"], " ", line["request_id"], " ", line["error"], " ", line["hint"]))
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{
		"INFO from the handler id-1", "DEBUG http: panic serving", "INFO from a library", "ERROR the server cannot start or go on <nil> line one line two: permission denied type this",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

// TestTheErrorThatEndsTheServerIsForPeople in a log of text.
func TestTheErrorThatEndsTheServerIsForPeople(t *testing.T) {
	var w faultyWriter
	s := &server{config: &config.Config{LogFormat: "text"}}
	s.log, s.queue = newLog("text", &s.level, &w)
	s.reportEnd(terminal.WithHint(errors.New("it is wrong"), "do this"))
	s.queue.Close()
	if want := "keymill: it is wrong\n  hint: do this\n"; w.String() != want {
		t.Errorf("printed %q, want %q", w.String(), want)
	}
}
