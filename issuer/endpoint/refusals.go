package endpoint

import (
	"context"
	"log/slog"
	"time"
)

const (
	auditEvery    = time.Minute
	readyEvery    = time.Second
	lastAuditTime = 5 * time.Second
)

// Run writes an audit record every minute in which logins or clients were refused, and a
// log line if some of them had none. It does so a last time when ctx ends, and returns nil.
// It also logs within a second when the server is no longer ready, why, and when it is again.
// The store must stay open until Run returns.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	readyTick := time.NewTicker(readyEvery)
	defer readyTick.Stop()
	var issues []string
	for {
		select {
		case <-readyTick.C:
			issues = s.checks.Look(issues)
		case <-tick.C:
			s.auditRefusals(ctx)
			s.lines.Report()
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAuditTime)
			defer cancel()
			s.auditRefusals(last)
			s.lines.Flush()
			s.lines.Report()
			return nil
		}
	}
}

// auditRefusals writes one record for all requests: one for each would let an attacker fill the
// store. It keeps the counts for the next record if this one cannot be written.
func (s *Server) auditRefusals(ctx context.Context) {
	counts := s.refused.Take()
	if len(counts) == 0 {
		return
	}
	if err := s.cfg.Issuer.AuditRefusals(ctx, counts); err != nil {
		s.refused.Add(counts)
		if s.checks.Ended(err) {
			return
		}
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "refused requests were not audited", slog.String("err", err.Error()))
	}
}
