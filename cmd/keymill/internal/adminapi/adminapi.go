// Package adminapi asks a running server through the admin socket of its data directory, or over the network with
// an access token.
package adminapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// A Client talks to a running server, over the admin socket of its data directory or over the network.
type Client struct {
	socket string
	remote *Remote // nil if it is the socket
	http   *http.Client

	answered atomic.Bool // at least one request
}

// Dial finds the running server of the first of dirs that has one.
func Dial(ctx context.Context, dirs []string) (*Client, error) {
	for _, dir := range dirs {
		socket := filepath.Join(dir, "admin.sock")
		conn, err := serve.DialAdmin(ctx, socket)
		switch {
		case err == nil:
			conn.Close()
			return New(socket), nil
		case !errors.As(err, new(*net.OpError)): // another user listens there
			return nil, err
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			return nil, terminal.WithHint(fmt.Errorf("%s: permission denied", socket), "run it as the server's user, or as root")
		case len(socket) > config.MaxSocketPath:
			return nil, fmt.Errorf("the socket path %s is too long (%d bytes; the system allows %d)", socket, len(socket), config.MaxSocketPath)
		}
	}
	if len(dirs) > 1 {
		return nil, terminal.WithHint(fmt.Errorf("no server is running on %s or %s", dirs[0], dirs[1]),
			"start one with \"keymill serve --dev\", or name the data directory of a running server with --data DIR")
	}
	return nil, terminal.WithHint(fmt.Errorf("no server is running on the data directory %s", dirs[0]), "start one with %q", config.ServeCommand(dirs[0]))
}

// New returns a client of the server with that socket.
func New(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{
		Timeout:       40 * time.Second, // longer than the server's own limits
		CheckRedirect: noRedirect,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return serve.DialAdmin(ctx, socket)
			},
		},
	}}
}

// noRedirect follows no redirect. It could send a token to another server, and it turns a change into a GET.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Data returns the data directory of the server, "" if it is asked over the network.
func (a *Client) Data() string {
	if a.remote != nil {
		return ""
	}
	return filepath.Dir(a.socket)
}

// Flags returns what names the server on a command line.
func (a *Client) Flags() []string {
	if a.remote == nil {
		return []string{"--data", a.Data()}
	}
	return append([]string{"--server", a.remote.URL}, a.remote.Flags...)
}

// Name returns the data directory or the URL of the server.
func (a *Client) Name() string {
	if a.remote != nil {
		return a.remote.URL
	}
	return a.Data()
}

// An Error is a refusal of the server.
type Error struct {
	api.NotReadyProblem

	Scope string `json:"-"` // that the token lacks; "" if that is not the reason
}

// Error returns the detail of the refusal, or its code.
func (e *Error) Error() string { return cmp.Or(e.Detail, e.Code) }

// Unclear reports whether a change may have been made in spite of the error: the server failed, or the answer is not its
// own, as that of a proxy.
func (e *Error) Unclear() bool { return e.Status >= 500 || e.Code == "" }

// maxAnswerBytes bounds one answer; the longest is 1,000 audit records.
const maxAnswerBytes = 16 << 20

// Call sends a request, with body as JSON unless it is nil, and returns the answer's JSON.
func (a *Client) Call(ctx context.Context, method, path string, body any) ([]byte, error) {
	resp, err := a.send(ctx, method, path, nil, body)
	if err != nil {
		return nil, err
	}
	return a.read(resp)
}

// send sends a request with more headers.
func (a *Client) send(ctx context.Context, method, path string, header http.Header, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		raw, err := terminal.MarshalJSON(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	req, err := a.request(ctx, method, path, content)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.connectionError(err)
	}
	a.answered.Store(true)
	return resp, nil
}

// read reads a whole answer.
func (a *Client) read(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, a.connectionError(err)
	}
	if resp.StatusCode < 300 {
		return raw, a.check(resp, raw)
	}
	refused := &Error{}
	if json.Unmarshal(raw, refused) != nil || refused.Code == "" {
		refused = &Error{}
		refused.Detail = "the server answered " + resp.Status
	}
	refused.Status = resp.StatusCode
	return nil, a.advise(resp, refused)
}

// check refuses an answer that is not of the admin API, such as a page of a proxy. A caller that reads nothing of an answer
// would take it for a change that was made.
func (a *Client) check(resp *http.Response, raw []byte) error {
	if resp.StatusCode == http.StatusNoContent || json.Valid(raw) {
		return nil
	}
	err := errors.New("cannot read the server's answer: it is not JSON")
	if a.remote != nil {
		return a.remote.Advise(err)
	}
	return err
}

// connectionError explains a connection that ended without an answer.
func (a *Client) connectionError(err error) error {
	if a.remote != nil {
		return a.remote.connectionError(err)
	}
	lost := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case lost && a.answered.Load():
		return terminal.WithHint(fmt.Errorf("the server on %s ended in the middle of a request", a.socket),
			"what it was asked last may be done or not; see when it serves again")
	case lost:
		return terminal.WithHint(fmt.Errorf("the server on %s closed the connection without an answer", a.socket),
			"it answers only its own user and root; run this as one of them")
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("request to %s failed: %w", a.socket, err)
}

// Ask calls the server and decodes the answer into T. It also returns the raw answer, for
// --json.
func Ask[T any](ctx context.Context, a *Client, method, path string, body any) (answer T, raw []byte, err error) {
	raw, err = a.Call(ctx, method, path, body)
	if err == nil {
		if err = json.Unmarshal(raw, &answer); err != nil {
			err = fmt.Errorf("cannot read the server's answer: %w", err)
		}
	}
	return answer, raw, err
}

// PageSize is how many entries one request for a list asks for.
const PageSize = 500

// AskAll reads a whole list, page by page. name returns what the list is ordered by.
func AskAll[T any](ctx context.Context, a *Client, path string, name func(T) string) (all []T, raw []byte, err error) {
	whole := []json.RawMessage{}
	after := ""
	for {
		query := url.Values{"limit": {strconv.Itoa(PageSize)}}
		if after != "" {
			query.Set("after", after)
		}
		page, raw, err := Ask[[]json.RawMessage](ctx, a, http.MethodGet, path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, raw, err
		}
		for _, entry := range page {
			var v T
			if err := json.Unmarshal(entry, &v); err != nil {
				return nil, nil, fmt.Errorf("cannot read the server's answer: %w", err)
			}
			all, whole = append(all, v), append(whole, entry)
			after = name(v)
		}
		if len(page) < PageSize {
			raw, err = terminal.MarshalJSON(whole)
			return all, raw, err
		}
	}
}
