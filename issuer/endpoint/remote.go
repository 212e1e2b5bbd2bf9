package endpoint

import (
	"net/http"

	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/admin/access"
)

// Remote returns the handler of admin.listen, the admin API for holders of tokens. It is nil without
// Config.AdminHosts.
func (s *Server) Remote() http.Handler {
	if s.remote == nil {
		return nil
	}
	return s.remote
}

func (s *Server) remoteRoutes(guard *access.Guard) {
	s.remote = s.newRouter(unavailable{code: "unavailable", withReason: true}, func(r *http.Request) error {
		if err := checkHeaderCount(r.Header); err != nil {
			return err
		}
		return guard.Admit(r)
	})
	s.remote.format, s.remote.lines, s.remote.damaged = &problemFormat, s.lines, s.cfg.Damaged
	s.remote.identify = func(r *http.Request) (*http.Request, error) {
		if r.Method == http.MethodOptions {
			return r, nil // no route accepts it
		}
		caller, err := guard.Identify(r.Context(), r.Header, s.address(r))
		if err != nil {
			return nil, err
		}
		return admin.WithCaller(r, caller), nil
	}
	s.adminRoutes(s.remote)
}
