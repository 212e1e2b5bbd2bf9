package endpoint

import (
	"log/slog"
	"net/http"
	"net/netip"

	"keymill/issuer/endpoint/forwardauth"
	"keymill/issuer/refusal"
)

// Verify returns the handler of verify.listen, which answers proxies (package forwardauth).
func (s *Server) Verify() http.Handler { return s.verify }

func (s *Server) verifyRoutes() {
	s.verify = s.newRouter(unavailable{code: temporarilyUnavailable}, func(r *http.Request) error { return checkHeaderCount(r.Header) })
	s.verify.format, s.verify.lines, s.verify.damaged = &verifyFormat, s.lines, s.cfg.Damaged
	s.verify.address = func(*http.Request) netip.Addr { return netip.Addr{} } // every peer is a proxy of this machine
	s.verify.get(forwardauth.Path, forwardauth.New(s.cfg.Issuer).Serve)
}

// verifyFormat warns of a wrong query, which is a mistake in the proxy's configuration. A request without a token is an
// everyday one.
var verifyFormat = errorFormat{apply: func(_ *http.Request, a reply, err error) reply {
	switch {
	case a.status == http.StatusBadRequest:
		a.level = slog.LevelWarn
	case refusal.CodeOf(err) == "no_token":
		a.level = slog.LevelDebug
	}
	return a
}}
