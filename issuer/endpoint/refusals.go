package endpoint

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A refusalCounter counts refused requests by code. They are audited as one record a
// minute: one record for each request would let an attacker fill the store.
type refusalCounter struct {
	mu     sync.Mutex
	counts map[string]int // owned by mu; only codes of this package, so it stays small
}

const (
	auditEvery    = time.Minute
	lastAuditTime = 5 * time.Second
)

func (c *refusalCounter) count(code string) {
	c.add(map[string]int{code: 1})
}

func (c *refusalCounter) add(counts map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	for code, n := range counts {
		c.counts[code] += n
	}
}

func (c *refusalCounter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = nil
	return counts
}

// Run writes an audit record every minute in which logins or clients were refused, and a
// last one when ctx ends. It then returns nil. The store must stay open until Run returns.
func (s *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(auditEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.auditRefusals(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAuditTime)
			defer cancel()
			s.auditRefusals(last)
			return nil
		}
	}
}

// auditRefusals keeps the counts for the next record if this one cannot be written.
func (s *Server) auditRefusals(ctx context.Context) {
	counts := s.refused.take()
	if len(counts) == 0 {
		return
	}
	if err := s.cfg.Issuer.AuditRefusals(ctx, counts); err != nil {
		s.refused.add(counts)
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "refused requests were not audited", slog.String("err", err.Error()))
	}
}
