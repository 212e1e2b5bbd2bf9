package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// ServerOf returns a Server that calls the handler of the admin API in this process. The context of each
// request is that of the call, so it must name the actor: see admin.WithActor.
func ServerOf(handler http.Handler) Server {
	return func(ctx context.Context, r Request) (Answer, error) {
		raw := []byte(nil)
		if r.Body != nil {
			var err error
			if raw, err = json.Marshal(r.Body); err != nil {
				return Answer{}, err
			}
		}
		req, err := http.NewRequestWithContext(ctx, r.Method, "http://keymill/admin/v1/"+r.Path, bytes.NewReader(raw))
		if err != nil {
			return Answer{}, err
		}
		req.Header = r.Header()
		if raw != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		w := &recorder{header: http.Header{}, answer: Answer{Status: http.StatusOK}}
		handler.ServeHTTP(w, req)
		w.answer.ETag = w.header.Get("ETag")
		return w.answer, ctx.Err()
	}
}

// A recorder is an http.ResponseWriter that keeps the answer.
type recorder struct {
	header http.Header
	answer Answer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) { w.answer.Status = status }

func (w *recorder) Write(b []byte) (int, error) {
	w.answer.Body = append(w.answer.Body, b...)
	return len(b), nil
}
