package endpoint

import (
	"io"
	"net/http"
)

// healthz says that the process answers, and nothing about its state. A supervisor should
// not restart a process that only waits for its disk.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	w.Header()["Content-Type"] = []string{"text/plain; charset=utf-8"}
	io.WriteString(w, "ok") // fails only if the client has closed the connection
	return nil
}

// readyz says whether a load balancer should send requests here.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	issues := s.issues()
	status := http.StatusOK
	if len(issues) > 0 {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, struct {
		Ready  bool     `json:"ready"`
		Issues []string `json:"issues"`
	}{len(issues) == 0, issues})
}

// issues returns the reasons why the server is not ready; never nil, so that JSON shows a list.
func (s *Server) issues() []string {
	issues := []string{}
	if s.cfg.StoreFailed != nil && s.cfg.StoreFailed() != nil {
		issues = append(issues, "the store has failed and accepts no more requests")
	}
	if words := s.cfg.KeySet.issue(); words != "" {
		issues = append(issues, words)
	}
	keys := s.cfg.Keys.Status()
	issues = append(issues, keys.Issues...)
	if !keys.Ready && len(issues) == 0 {
		issues = append(issues, "the keys are not ready")
	}
	return issues
}
