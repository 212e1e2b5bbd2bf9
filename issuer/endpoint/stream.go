package endpoint

import (
	"net/http"
	"time"

	"keymill/issuer/endpoint/admin"
)

// streamStall is how long a client may take no byte of a stream.
const streamStall = 30 * time.Second

// writeStream writes the answer of s.
func (rt *router) writeStream(w http.ResponseWriter, r *http.Request, s admin.Stream) error {
	out := &streamWriter{w: w, control: http.NewResponseController(w)}
	err := s(out)
	if err == nil || !out.begun {
		return err
	}
	if r.Context().Err() == nil {
		rt.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", logPath(r.URL.Path), "error", err)
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
