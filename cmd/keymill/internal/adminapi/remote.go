package adminapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Remote is a server that is asked over the network.
type Remote struct {
	URL   string   // of the listener, without a path
	Flags []string // that a command line needs beside --server

	// Token returns the access token of each request.
	Token func(context.Context) (string, error)

	// Advise adds a hint to an *Error, or to an error of the connection.
	Advise func(error) error
}

// NewRemote returns a client of the server.
func NewRemote(remote Remote) *Client {
	return &Client{remote: &remote, http: &http.Client{
		Timeout:       40 * time.Second, // longer than the server's own limits
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: noRedirect,
	}}
}

// request returns a request for a path below /admin/v1/.
func (a *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	base := "http://keymill"
	if a.remote != nil {
		base = a.remote.URL
	}
	req, err := http.NewRequestWithContext(ctx, method, base+"/admin/v1/"+path, body)
	if err != nil || a.remote == nil {
		return req, err
	}
	token, err := a.remote.Token(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req, nil
}

// advise returns a refusal with a hint.
func (a *Client) advise(resp *http.Response, refused *Error) error {
	if a.remote == nil {
		return refused
	}
	if _, rest, ok := strings.Cut(resp.Header.Get("WWW-Authenticate"), `scope="`); ok {
		refused.Scope, _, _ = strings.Cut(rest, `"`)
	}
	return a.remote.Advise(refused)
}

func (r *Remote) connectionError(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return r.Advise(fmt.Errorf("request to %s failed: %w", r.URL, err))
}
