package endpoint

import (
	"context"
	"log/slog"
	"time"
)

const (
	auditEvery    = time.Minute
	lastAuditTime = 5 * time.Second
)

// Run writes an audit record every minute in which logins or clients were refused, and a
// log line if some of them had none. It does so a last time when ctx ends, and returns nil.
// The store must stay open until Run returns.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
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
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "refused requests were not audited", slog.String("err", err.Error()))
	}
}
