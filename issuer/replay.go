package issuer

import (
	"context"
	"strconv"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
)

// endReplayed ends a family because one of its replaced tokens was presented. Its audit record and
// the log line that comes from the outcome have the same facts. One of them is not in the
// transaction's reach: without it, endReplayed writes nothing and returns errTokenReused.
func (i *Issuer) endReplayed(d decision, f *family, e ending, p refreshAttempt) (outcome, error) {
	if p.loginFrom == nil {
		var replaced time.Time
		if e != endedRolledBack {
			replaced = f.rec.lastUsed
		}
		return outcome{replaced: replaced}, errTokenReused
	}
	facts := map[string]string{
		"generation":         strconv.FormatUint(uint64(p.token.Generation), 10),
		"current_generation": strconv.FormatUint(uint64(f.rec.generation), 10),
		// The address of the last refresh itself is not stored, only its fingerprint.
		"from_last_refresh_address": strconv.FormatBool(i.sameAddress(f, p.from)),
	}
	if *p.loginFrom != "" {
		facts["login_from"] = *p.loginFrom
	}
	refused := &refusal.Reason{
		Code: endings[e].name, Replay: true, User: f.rec.user, Session: f.id.String(),
		Facts: facts, Err: errInvalidToken(errTokenReused),
	}
	return outcome{refused: refused}, i.end(d, f, e, facts)
}

// loginAddress returns the address from which the session of a family began, as its audit record has
// it; "" if the record is not kept or cannot be read. A replay must end the session in any case.
func (i *Issuer) loginAddress(ctx context.Context, id familyID) string {
	rec, err := audit.Find(ctx, i.store, id.Time(), "session.login", id.String())
	if err != nil || rec == nil {
		return ""
	}
	return rec.Detail["from"]
}

// aboutSession adds to a refusal the session of the token that was presented, and its user. It does
// so after the decision, so the decision reads no more than it needs. Any other error stays as it is,
// as does the refusal of a token without a session.
func (i *Issuer) aboutSession(ctx context.Context, id familyID, err error) error {
	code := refusal.CodeOf(err)
	if code == "" || id == (familyID{}) {
		return err
	}
	var user string
	i.store.View(context.WithoutCancel(ctx), func(r storage.Reader) error { // without the record, the user is not named
		user = ""
		if rec, err := i.readFamily(r, id); err == nil && rec != nil {
			user = rec.user
		}
		return nil
	})
	return &refusal.Reason{Code: code, User: user, Session: id.String(), Err: err}
}
