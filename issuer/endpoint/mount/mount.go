// Package mount serves the public API below the path of the issuer, for a host that serves other software
// too. A proxy passes the paths on as they are:
//
//	issuer https://example.com/auth
//	  /auth/token                                     ─▶ /token, and so on
//	  /auth/.well-known/openid-configuration          ─▶ /.well-known/openid-configuration  (OIDC Discovery, section 4)
//	  /.well-known/oauth-authorization-server/auth    ─▶ /.well-known/oauth-authorization-server  (RFC 8414, section 3)
//	  /healthz, /readyz                               ─▶ the same: who asks for them knows the address of the listener
//	  everything else, also with escapes such as %2f  ─▶ not found
//
// Each discovery document is at both places, because clients of either standard read the documents of the
// other one too.
package mount

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Below returns a handler that passes requests on to h with the path that they have below base, such as "/auth".
// documents are the paths of the documents that RFC 8414 puts in front of base, and anywhere those that are
// served without base as well. An empty base returns h.
func Below(base string, h http.Handler, documents, anywhere []string) http.Handler {
	if base == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside := *r
		inside.URL = new(url.URL)
		*inside.URL = *r.URL
		inside.URL.Path, inside.URL.RawPath = pathBelow(base, r.URL.EscapedPath(), documents, anywhere), ""
		h.ServeHTTP(w, &inside)
	})
}

// notServed stands in front of a path that is not served. No route begins so, and the log shows the rest.
const notServed = "..."

// pathBelow returns the path that h knows, or notServed and the path.
func pathBelow(base, path string, documents, anywhere []string) string {
	if rest, ok := strings.CutPrefix(path, base); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	if document, ok := strings.CutSuffix(path, base); ok && slices.Contains(documents, document) {
		return document
	}
	if slices.Contains(anywhere, path) {
		return path
	}
	return notServed + path
}
