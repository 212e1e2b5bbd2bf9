package serve

import (
	"context"
	"errors"
	"maps"
	"sync"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/audit"
)

// A watch remembers what is wrong although the server serves. Each fault is logged once, and
// the admin API shows it for as long as it lasts. None of them makes the server unready.
type watch struct {
	order  sync.Mutex // held over reading and comparing faults, so that the newest are remembered
	mu     sync.Mutex
	logins map[string]loginFault // setting → the fault that was logged last
	audit  string                // damage of the audit log; "" if none was found
}

// update reads the faults, and reports those that changed.
func (w *watch) update(read func() []loginFault, report func(loginFault)) {
	w.order.Lock()
	defer w.order.Unlock()
	for _, f := range w.changed(read()) {
		report(f)
	}
}

// changed returns the faults that differ from those that it got last, also those that have
// gone.
func (w *watch) changed(now []loginFault) []loginFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := maps.Clone(w.logins)
	w.logins = map[string]loginFault{}
	var list []loginFault
	for _, f := range now {
		w.logins[f.setting] = f
		if old := before[f.setting]; f.why != old.why {
			list = append(list, f)
		}
	}
	return list
}

// warnings returns what is wrong now.
func (s *server) warnings(ctx context.Context) []api.Warning {
	list := append(LoginWarnings(s.config, s.records(ctx)), s.damage.warnings()...)
	list = append(list, s.auditLines.Warnings()...)
	list = append(list, s.file.MigrationWarnings(ctx)...)
	if damage := s.watch.damage(); damage != "" {
		list = append(list, api.Warning{Check: "audit", Detail: damage})
	}
	if err := s.rings.RevokedFault(); err != nil {
		list = append(list, api.Warning{Check: "revoked keys", Detail: terminal.Plain(err)})
	}
	if rsa := s.rings.RSASigner(); rsa.Why != "" {
		list = append(list, api.Warning{Check: "keys.rsa", Detail: "Go signs RS256: " + terminal.Plain(errors.New(rsa.Why))})
	}
	return append(list, s.tls.Warnings()...)
}

// damage returns what is known to be wrong with the audit log.
func (w *watch) damage() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.audit
}

// checkLogins reports the login endpoints that have a fault at the start.
func (s *server) checkLogins(ctx context.Context) error {
	s.watchLogins(ctx)
	return nil
}

// checkAudit verifies the newest records of the audit log, and later, in the background, the
// others. Damage is reported and never ends the server, because serving needs no old record.
func (s *server) checkAudit(ctx context.Context) error {
	oldest, err := audit.VerifyNewest(ctx, s.store)
	if err != nil && !errors.Is(err, audit.ErrDamaged) {
		return err
	}
	s.reportDamage(err)
	s.unverified = oldest - 1
	return nil
}

// verifyRest verifies the records that checkAudit did not read. It returns nil when ctx ends, and an error when the
// store has failed.
func (s *server) verifyRest(ctx context.Context) error {
	err := audit.VerifyUntil(ctx, s.store, s.unverified)
	switch {
	case errors.Is(err, audit.ErrDamaged):
		s.reportDamage(err)
	case storage.Ended(s.store, err):
		return err
	case err != nil && ctx.Err() == nil:
		s.log.Warn("cannot verify the audit log", "error", terminal.Plain(err))
	}
	<-ctx.Done()
	return nil
}

func (s *server) reportDamage(err error) {
	if err == nil {
		return
	}
	s.log.Error("the audit log is damaged; the server keeps serving", "error", terminal.Plain(err))
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.watch.audit != "" {
		s.watch.audit += "; "
	}
	s.watch.audit += terminal.Plain(err)
}
