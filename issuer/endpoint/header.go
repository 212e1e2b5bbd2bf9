package endpoint

import (
	"net/http"
	"slices"
	"strings"

	"keymill/issuer/refusal"
)

// maxHeaderLines is several times what browsers and proxies send together. http.Server bounds their bytes.
const maxHeaderLines = 100

// checkHeaderCount refuses a request with more lines in its header than any honest client sends.
func checkHeaderCount(h http.Header) error {
	lines := 0
	for _, values := range h {
		lines += len(values)
	}
	if lines > maxHeaderLines {
		return errHeaders
	}
	return nil
}

// checkHeaders refuses a request that repeats a header of which one value decides about it. Two
// values would let two programs, such as a proxy and this server, decide about different requests.
// A proxy may join repeated lines with a comma (RFC 9110, section 5.3), which no value of Sec-Fetch-*
// has. GET and HEAD are not checked: none of these headers changes their answers.
//
// All values of the other headers that this package reads count: those of Cookie, X-Forwarded-For,
// If-None-Match, Access-Control-Request-Headers and Content-Encoding. The parsers of bodies refuse a
// repeated Content-Type, and net/http a repeated Host.
func checkHeaders(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	for name, values := range r.Header {
		fetch := strings.HasPrefix(name, "Sec-Fetch-")
		if len(values) > 1 && (fetch || isSingle(name)) || fetch && strings.Contains(values[0], ",") {
			return refusal.New("invalid_request", "header %s is given more than once", refusal.Quoted(short(name)))
		}
	}
	return nil
}

// isSingle reports whether one value of the header decides about a request.
func isSingle(name string) bool {
	switch name {
	case "Authorization", "Origin", "Access-Control-Request-Method":
		return true
	}
	return false
}

// isCoded reports whether a body has a Content-Encoding, which no parser of this package decodes.
func isCoded(h http.Header) bool {
	return slices.ContainsFunc(h["Content-Encoding"], func(coding string) bool { return coding != "" })
}
