package endpoint

import (
	"errors"
	"net/http"
	"strings"

	"keymill/issuer"
	"keymill/issuer/endpoint/activity"
	"keymill/issuer/endpoint/forwardauth"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/endpoint/metrics"
	"keymill/issuer/refusal"
)

var errTooManyScrapes = newStatusError(http.StatusTooManyRequests, temporarilyUnavailable, "too many scrapes, try again later")

// measure makes the counters of the public API and of proxies, and the routes of the metrics listener. Requests to that
// listener are not counted.
func (s *Server) measure() {
	if m := s.cfg.Metrics; m != nil {
		s.public.begin, s.verify.begin = m.Begin, m.BeginVerify
	}
	var paths, cached []string
	for _, r := range s.public.routes {
		if paths = append(paths, r.path); strings.HasPrefix(r.path, "/.well-known/") {
			cached = append(cached, r.path)
		}
	}
	s.cfg.Metrics.SetRoutes(metrics.Routes{
		Paths: paths, Cached: cached, KeySet: keyset.Path, Verify: forwardauth.Path, Algorithms: s.cfg.Issuer.Algorithms(),
		Grants: append(s.cfg.Issuer.Grants(), issuer.LoginSimpleJWT.String(), issuer.LoginBrowser.String()),
	})
	s.monitor = s.newRouter(unavailable{code: temporarilyUnavailable}, s.admit)
	s.monitor.lines = s.lines
	s.monitor.get("/healthz", s.healthz)
	s.monitor.get("/readyz", s.readyz)
	if s.cfg.Metrics != nil {
		s.monitor.get("/metrics", s.scrape)
	}
}

// Monitor returns the handler of the metrics listener.
func (s *Server) Monitor() http.Handler { return s.monitor }

func (s *Server) scrape(w http.ResponseWriter, r *http.Request) error {
	err := s.cfg.Metrics.Serve(w, r)
	if errors.Is(err, metrics.ErrTooOften) {
		return errTooManyScrapes
	}
	return err
}

const refreshGrant = "refresh_token"

// issued counts the tokens of a grant or a login endpoint, if there are any, or the refusal.
func (s *Server) issued(grant string, g issuer.Grant, err error) {
	switch {
	case err == nil:
		s.cfg.Metrics.Issued(grant, g.Alg)
		s.activity.Add(activity.Token)
	case refusal.CodeOf(err) != "":
		s.activity.Add(activity.Refusal)
	}
}

// refreshed counts what became of a refresh token, at /token or at a login endpoint. Neither a client that hangs
// up nor a fault is an outcome.
func (s *Server) refreshed(g issuer.Grant, err error) {
	switch code := refusal.CodeOf(err); {
	case err == nil && g.Graced:
		s.cfg.Metrics.Refreshed(metrics.Grace)
	case err == nil:
		s.cfg.Metrics.Refreshed(metrics.Rotated)
	case code != "":
		outcome := metrics.OutcomeOf(code)
		s.cfg.Metrics.Refreshed(outcome)
		if outcome == metrics.Replay || outcome == metrics.LateRetry {
			s.activity.Add(activity.Reuse)
		}
	}
	s.issued(refreshGrant, g, err)
}
