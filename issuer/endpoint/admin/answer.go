package admin

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Serve answers a request of route. If it returns an error, it has written nothing.
func (a *API) Serve(route Route, w http.ResponseWriter, r *http.Request) error {
	answer, err := route.Handler(r)
	if err != nil {
		return err
	}
	status := route.Status
	if s, ok := answer.(stored); ok {
		answer, status = s.answer, s.status
		if s.next != "" {
			w.Header().Set("Link", s.next)
		}
	}
	if e, ok := answer.(interface{ ETag() string }); ok && route.Tagged {
		w.Header().Set("ETag", e.ETag())
	}
	if stream, ok := answer.(Stream); ok {
		return a.writeStream(stream, w, r)
	}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return nil
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) // fails only if the client has closed the connection
	return nil
}

// A Stream is an answer that is not JSON and may be long. It writes the body. If it returns an error
// before it has written anything, that error is the answer; after it the connection is closed before
// the end of the body, so that the caller sees that the body is not whole.
type Stream func(w io.Writer) error

// streamStall is how long a client may take no byte of a stream.
const streamStall = 30 * time.Second

// writeStream writes the answer of s.
func (a *API) writeStream(s Stream, w http.ResponseWriter, r *http.Request) error {
	out := &streamWriter{w: w, control: http.NewResponseController(w)}
	err := s(out)
	if err == nil || !out.begun {
		return err
	}
	if r.Context().Err() == nil {
		a.cfg.Log.LogAttrs(r.Context(), slog.LevelError, "request failed",
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("error", err.Error()))
	}
	panic(http.ErrAbortHandler) // the body must not look whole
}

// A streamWriter gives each write its own time: the limit of the server is for a whole answer.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// Write implements io.Writer.
func (s *streamWriter) Write(b []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamStall)); err != nil {
		return 0, err
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "application/octet-stream")
		s.w.WriteHeader(http.StatusOK)
	}
	return s.w.Write(b)
}
