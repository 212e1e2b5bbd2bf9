package jwks

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

// maxHeaderBytes bounds what stands before a document; net/http would read 10 MB.
const maxHeaderBytes = 64 << 10

// safeClient returns a copy of client that follows no redirect, on a transport of our own
// if client names none. release lets go of that transport's connections.
func safeClient(client *http.Client) (safe *http.Client, release func()) {
	safe, release = new(http.Client), func() {}
	if client != nil {
		*safe = *client
	}
	safe.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if safe.Transport == nil {
		own := newTransport()
		safe.Transport, release = own, own.CloseIdleConnections
	}
	return safe, release
}

// newTransport starts from the program's default, which may know its roots and proxies.
func newTransport() *http.Transport {
	own := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if theirs, plain := http.DefaultTransport.(*http.Transport); plain {
		own = theirs.Clone()
	}
	own.MaxResponseHeaderBytes = maxHeaderBytes
	own.TLSHandshakeTimeout = defaultTimeout
	own.IdleConnTimeout = 90 * time.Second
	return own
}

// A reply is a document, or the word that it has not changed.
type reply struct {
	header    http.Header
	body      []byte
	unchanged bool
}

// get asks for location, and for nothing but news if the caller holds what has etag.
// Its errors name the location.
func get(ctx context.Context, client *http.Client, location, etag string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	response, err := client.Do(request)
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", location, discreet(err))
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusNotModified && etag != "":
		return reply{header: response.Header, unchanged: true}, nil
	case code != http.StatusOK:
		// The reason phrase is the server's, of any length: the code says as much.
		return reply{}, fmt.Errorf("%s answered %d %s", location, code, http.StatusText(code))
	}
	body, err := readBody(response.Body)
	if err != nil {
		return reply{}, fmt.Errorf("%s: %w", location, err)
	}
	return reply{header: response.Header, body: body}, nil
}

// readBody measures what comes out of any compression: a few KiB of gzip can hold a GiB.
func readBody(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(body) > maxDocumentBytes {
		return nil, fmt.Errorf("it sent over %d bytes", maxDocumentBytes)
	}
	return body, nil
}

// A discreetError keeps the chain of err for errors.Is, and a text fit for logs.
type discreetError struct {
	text string
	err  error
}

func (e *discreetError) Error() string { return e.text }
func (e *discreetError) Unwrap() error { return e.err }

// discreet shortens a transport's error, and cuts the password of a proxy out of it:
// net/http quotes the whole setting of a proxy that it cannot read.
func discreet(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // without the location, which the caller names
	}
	text := withoutUser(err.Error())
	const longest = 300
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return &discreetError{strings.ToValidUTF8(text, "…"), err}
}

// withoutUser cuts whatever stands between the first "://" and the last "@" out of a
// text. That may be more than a user's name and password, which may hold anything.
func withoutUser(text string) string {
	i, j := strings.Index(text, "://"), strings.LastIndex(text, "@")
	if i < 0 || j < i {
		return text
	}
	return text[:i+len("://")] + "…" + text[j:]
}
