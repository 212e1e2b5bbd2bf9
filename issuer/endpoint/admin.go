package endpoint

import (
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"keymill/issuer/refusal"
)

// adminRoutes lists everything that an administrator can ask.
func (s *Server) adminRoutes(rt *router) {
	rt.get("/admin/v1/status", s.adminStatus)
	rt.get("/admin/v1/audit", s.adminAudit)

	rt.get("/admin/v1/keys", s.listKeys)
	rt.handle(http.MethodPost, "/admin/v1/keys/rotate", s.changing(s.rotateKey))
	rt.handle(http.MethodPost, "/admin/v1/keys/revoke", s.changing(s.revokeKey))
	rt.handle(http.MethodPost, "/admin/v1/keys/import", s.changing(s.importKey))

	rt.get("/admin/v1/audiences", s.listAudiences)
	rt.handle(http.MethodPost, "/admin/v1/audiences", s.changing(s.addAudience))
	rt.get("/admin/v1/audience", s.showAudience)
	rt.handle(http.MethodPatch, "/admin/v1/audience", s.changing(s.setAudience))
	rt.handle(http.MethodDelete, "/admin/v1/audience", s.changing(s.removeAudience))

	rt.get("/admin/v1/clients", s.listClients)
	rt.handle(http.MethodPost, "/admin/v1/clients", s.changing(s.addClient))
	rt.get("/admin/v1/client", s.showClient)
	rt.handle(http.MethodPatch, "/admin/v1/client", s.changing(s.setClient))
	rt.handle(http.MethodDelete, "/admin/v1/client", s.changing(s.removeClient))
	rt.handle(http.MethodPost, "/admin/v1/client/secret", s.changing(s.rotateSecret))

	rt.get("/admin/v1/users", s.listUsers)
	rt.handle(http.MethodPost, "/admin/v1/users", s.changing(s.addUser))
	rt.handle(http.MethodPost, "/admin/v1/users/import", s.changing(s.importUsers))
	rt.get("/admin/v1/user", s.showUser)
	rt.handle(http.MethodPatch, "/admin/v1/user", s.changing(s.setUser))
	rt.handle(http.MethodDelete, "/admin/v1/user", s.changing(s.removeUser))
	rt.handle(http.MethodPost, "/admin/v1/user/password", s.changing(s.setPassword))
	rt.handle(http.MethodPost, "/admin/v1/user/logout", s.changing(s.logoutUser))

	rt.get("/admin/v1/sessions", s.listSessions)
	rt.handle(http.MethodPost, "/admin/v1/sessions/revoke", s.changing(s.revokeSessions))
	rt.handle(http.MethodDelete, "/admin/v1/session", s.changing(s.revokeSession))
	rt.handle(http.MethodPost, "/admin/v1/session/why", s.explainToken)
}

// changing adds the log line of a change that was made. What was changed is in the
// audit log, written by the transaction that did it.
func (s *Server) changing(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		if err == nil {
			s.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "administration",
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("by", actor(r)))
		}
		return err
	}
}

func (s *Server) adminStatus(w http.ResponseWriter, _ *http.Request) error {
	issues, keys := s.issues(), s.cfg.Keys.Status()
	var size int64
	if s.cfg.StoreBytes != nil {
		size = s.cfg.StoreBytes()
	}
	return writeJSON(w, http.StatusOK, struct {
		Version     string     `json:"version"`
		Issuer      string     `json:"issuer"`
		Ready       bool       `json:"ready"`
		Issues      []string   `json:"issues"`
		ClockFrozen bool       `json:"clock_frozen"`
		Now         *time.Time `json:"now"`
		StoreBytes  int64      `json:"store_bytes"`
	}{s.cfg.Version, s.cfg.Issuer.URL(), len(issues) == 0, issues, keys.Frozen, instant(keys.Now), size})
}

const (
	defaultAudited = 50 // audit records, if nobody says how many
	maxAudited     = 1000
)

// adminAudit returns records after a number, or else the newest; oldest first.
func (s *Server) adminAudit(w http.ResponseWriter, r *http.Request) error {
	limit, err := readNumber(r, "limit", defaultAudited, 1, maxAudited)
	if err != nil {
		return err
	}
	read := func() (any, error) { return s.cfg.Issuer.AuditLast(r.Context(), int(limit)) }
	if r.URL.Query().Has("after") {
		after, err := readNumber(r, "after", 0, 0, 1<<62)
		if err != nil {
			return err
		}
		read = func() (any, error) { return s.cfg.Issuer.AuditTail(r.Context(), after, int(limit)) }
	}
	records, err := read()
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"records": records})
}

const (
	defaultListed = 100
	maxListed     = 1000
)

// readPage reads where a list goes on and how long it may get.
func readPage(r *http.Request) (after string, limit int, err error) {
	n, err := readNumber(r, "limit", defaultListed, 1, maxListed)
	if err != nil {
		return "", 0, err
	}
	query, err := readQuery(r)
	return query.Get("after"), int(n), err
}

// readName reads the query parameter that says what a request is about.
func readName(r *http.Request, parameter string) (string, error) {
	query, err := readQuery(r)
	if err != nil {
		return "", err
	}
	value := query.Get(parameter)
	if value == "" {
		return "", refusal.New("invalid_request", "the query must hold %s once", parameter)
	}
	return value, nil
}

// parseWait reads a duration of an administrator; "" is 0.
func parseWait(member, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, refusal.New("invalid_request", "member '%s' must be a duration such as 24h", member)
	}
	return d, nil
}

func sortedNames(m members) []string { return slices.Sorted(maps.Keys(m)) }
