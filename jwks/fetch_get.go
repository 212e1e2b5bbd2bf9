package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxHeaderBytes bounds the header of a response. net/http would read 10 MB.
const maxHeaderBytes = 64 << 10

// safeClient returns a copy of client that follows no redirect. If client has no transport,
// the copy gets its own, and release closes the idle connections of that transport.
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

// newTransport copies the default transport of the program, which may have roots and proxies.
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

// A response is a document, or says that the document has not changed.
type response struct {
	header    http.Header
	body      []byte
	unchanged bool
}

// get fetches location with more headers. With If-None-Match it requests a document only if that has changed. Its
// errors name the location.
func get(ctx context.Context, client *http.Client, location string, more http.Header) (response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return response{}, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	maps.Copy(request.Header, more)
	name := shown(location)
	r, err := client.Do(request)
	if err != nil {
		return response{}, fmt.Errorf("%s: %w", name, sanitize(err))
	}
	defer r.Body.Close()
	switch code := r.StatusCode; {
	case code == http.StatusNotModified && more.Get("If-None-Match") != "":
		return response{header: r.Header, unchanged: true}, nil
	case code != http.StatusOK:
		// The server chooses the reason phrase, and its length. The code says the same.
		return response{}, fmt.Errorf("%s responded with %d %s", name, code, http.StatusText(code))
	}
	body, err := readBody(r.Body)
	if err != nil {
		return response{}, fmt.Errorf("%s: %w", name, err)
	}
	return response{header: r.Header, body: body}, nil
}

// readBody bounds the body after decompression: a few KiB of gzip can expand to a GiB.
func readBody(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(body) > maxDocumentBytes {
		return nil, fmt.Errorf("the response has over %d bytes", maxDocumentBytes)
	}
	return body, nil
}

// A sanitizedError wraps err for errors.Is, with a text that can be logged.
type sanitizedError struct {
	text string
	err  error
}

// Error returns the text that can be logged.
func (e *sanitizedError) Error() string { return e.text }

// Unwrap returns the error of the transport, with its whole text.
func (e *sanitizedError) Unwrap() error { return e.err }

// sanitize shortens the error of a transport and removes the password of a proxy: net/http
// quotes the whole address of a proxy that it cannot parse.
func sanitize(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // the caller names the location
	}
	text := cutUserinfo(err.Error())
	const longest = 300
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return &sanitizedError{strings.ToValidUTF8(text, "…"), err}
}

// cutUserinfo replaces everything between the first "://" and the last "@" of a text. That may
// be more than user name and password, since a password may contain any character.
func cutUserinfo(text string) string {
	i, j := strings.Index(text, "://"), strings.LastIndex(text, "@")
	if i < 0 || j < i {
		return text
	}
	return text[:i+len("://")] + "…" + text[j:]
}
