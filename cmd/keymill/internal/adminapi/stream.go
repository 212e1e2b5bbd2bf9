package adminapi

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// streamStall is how long a server may send nothing of a stream.
const streamStall = time.Minute

// Stream sends a request without a body and returns the body of the answer, which may be long. Its Read
// fails if the server sends nothing for a minute.
func (a *Client) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stalled := time.AfterFunc(streamStall, func() { cancel(errors.New("the server sends nothing any longer")) })
	end := func() {
		stalled.Stop()
		cancel(nil)
	}
	req, err := a.request(ctx, http.MethodPost, path, nil)
	if err != nil {
		end()
		return nil, err
	}
	unlimited := &http.Client{Transport: a.http.Transport, CheckRedirect: a.http.CheckRedirect}
	resp, err := unlimited.Do(req)
	if err != nil {
		end()
		return nil, a.connectionError(cmp.Or(context.Cause(ctx), err))
	}
	if resp.StatusCode < 300 {
		stalled.Stop()
		return &stream{resp.Body, ctx, stalled, end}, nil
	}
	defer end()
	_, err = a.read(resp)
	return nil, err
}

// A stream is a body that must go on.
type stream struct {
	body    io.ReadCloser
	ctx     context.Context
	stalled *time.Timer
	end     func()
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	s.stalled.Reset(streamStall)
	n, err := s.body.Read(b)
	s.stalled.Stop() // a slow disk of ours is not the server's fault
	if cause := context.Cause(s.ctx); err != nil && err != io.EOF && cause != nil {
		err = cause
	}
	return n, err
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.end()
	return s.body.Close()
}
