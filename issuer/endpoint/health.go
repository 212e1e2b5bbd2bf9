package endpoint

import (
	"io"
	"net/http"

	"keymill/issuer/endpoint/readiness"
)

// healthz says that the process answers, and nothing about its state. A supervisor should
// not restart a process that only waits for its disk.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header()["Content-Type"] = []string{"text/plain; charset=utf-8"}
	io.WriteString(w, "ok") // fails only if the client has closed the connection
	return nil
}

// readyz says whether a load balancer should send requests here. It does not say why: anyone can ask,
// and the reasons help an attacker to choose a moment. The admin API and the log have them.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	ready, status := len(s.checks.Issues()) == 0, http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, struct {
		Ready bool `json:"ready"`
	}{ready})
}

// Ready reports whether Run found the server ready within the last seconds. Unlike /readyz it reads no
// record, so it answers at once.
func (s *Server) Ready() bool { return s.checks.Ready() }

// newChecks returns what /readyz asks.
func (s *Server) newChecks() *readiness.Checker {
	return readiness.New(readiness.Config{
		Issuer: s.cfg.Issuer, Keys: s.cfg.Keys, KeySet: s.cfg.KeySet, Log: s.cfg.Log,
		Failed: s.cfg.StoreFailed, Away: s.cfg.StoreAway, CommitSince: s.cfg.CommitSince,
	})
}
