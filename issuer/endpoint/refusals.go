package endpoint

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// refusals counts what was refused and left no record, by code. A record for each would
// let a stranger write as much as he likes.
type refusals struct {
	mu     sync.Mutex
	counts map[string]int // owned by mu; the codes are ours, so there are few
}

const (
	auditEvery    = time.Minute
	lastAuditTime = 5 * time.Second
)

func (c *refusals) count(code string) {
	c.add(map[string]int{code: 1})
}

func (c *refusals) add(counts map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	for code, n := range counts {
		c.counts[code] += n
	}
}

func (c *refusals) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = nil
	return counts
}

// Run writes one audit record a minute about logins and clients that were refused, if
// there were any, and a last one when ctx ends, which is no error. The store must outlive it.
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

// auditRefusals keeps what it could not write for the next time.
func (s *Server) auditRefusals(ctx context.Context) {
	counts := s.refused.take()
	if len(counts) == 0 {
		return
	}
	if err := s.cfg.Issuer.AuditRefusals(ctx, counts); err != nil {
		s.refused.add(counts)
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "refusals not audited", slog.String("err", err.Error()))
	}
}
