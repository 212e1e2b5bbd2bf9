package endpoint

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
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
	ready, status := len(s.issues()) == 0, http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, struct {
		Ready bool `json:"ready"`
	}{ready})
}

// logReadiness writes a line when the reasons why the server is not ready are others than those of
// before, and returns them.
func (s *Server) logReadiness(before []string) []string {
	issues := s.issues()
	s.noteReady(len(issues) == 0)
	switch {
	case slices.Equal(issues, before):
	case len(issues) == 0:
		s.cfg.Log.Info("ready again")
	default:
		s.cfg.Log.Warn("not ready", "issues", strings.Join(issues, "; "))
	}
	return issues
}

// storeAnswers is how long a readiness check waits for the store.
const storeAnswers = 2 * time.Second

// commitTime is how long a commit of the store may take. Only a disk that hangs takes longer.
const commitTime = 5 * time.Second

// hangs reports whether a commit of the store has taken too long. All changes wait for it.
func (s *Server) hangs() bool {
	if s.cfg.CommitSince == nil {
		return false
	}
	since := s.cfg.CommitSince()
	return !since.IsZero() && time.Since(since) > commitTime
}

// damageIssue returns the issue of a damaged record with the key. text is its error, and keys are the issues of the keys.
// It returns "" if some tokens do not need the record, or if keys names it already.
func damageIssue(key, text string, keys []string) string {
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case "manifest", "ring", "retired", "refresh", "clock":
		if !slices.ContainsFunc(keys, func(issue string) bool { return strings.Contains(issue, text) }) {
			return text + ": stop the server and run keymill doctor"
		}
	}
	return ""
}

// checkEpoch returns why no session can be checked, or nothing.
func (s *Server) checkEpoch() (issues []string) {
	ctx, cancel := context.WithTimeout(context.Background(), storeAnswers) // a disk can hang
	defer cancel()
	if err := s.cfg.Issuer.CheckEpoch(ctx); err != nil {
		issues = append(issues, "no session can be checked: "+err.Error())
	}
	return issues
}

// issues returns the reasons why the server is not ready; never nil, so that JSON shows a list.
func (s *Server) issues() []string {
	issues := []string{}
	if s.cfg.StoreFailed != nil && s.cfg.StoreFailed() != nil {
		issues = append(issues, "the store has failed and accepts no more requests")
	}
	if words := s.cfg.KeySet.Issue(); words != "" {
		issues = append(issues, words)
	}
	keys := s.cfg.Keys.Status()
	for _, damaged := range s.cfg.Keys.Damaged() {
		if issue := damageIssue(damaged.Key, damaged.Error(), keys.Issues); issue != "" {
			issues = append(issues, issue)
		}
	}
	if s.hangs() {
		// The session check is left out: it can wait for the same commit.
		issues = append(issues, fmt.Sprintf("the store hangs: a commit has not ended within %v", commitTime))
	} else {
		issues = append(issues, s.checkEpoch()...)
	}
	issues = append(issues, keys.Issues...)
	if !keys.Ready && len(issues) == 0 {
		issues = append(issues, "the keys are not ready")
	}
	return issues
}
