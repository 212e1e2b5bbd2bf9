package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// Explain says what would become of a refresh token now, and changes nothing.
func (i *Issuer) Explain(ctx context.Context, token refusal.Secret) (api.Explanation, error) {
	shown, err := i.refreshSecrets.open(token)
	switch {
	case errors.Is(err, errNotRefresh):
		return api.Explanation{Verdict: "malformed", Why: fmt.Sprintf("it is not a refresh token of this server: they begin with %s and have %d characters", refreshPrefix, refreshChars)}, nil
	case err != nil:
		return api.Explanation{Verdict: "forged", Why: "it has the form of a refresh token, but its MAC is wrong: it comes from another database, or was changed"}, nil
	}
	var e api.Explanation
	at := i.instant()
	err = i.store.View(ctx, func(r storage.Reader) error {
		f, err := i.wholeFamily(r, shown.family)
		if err != nil {
			return err
		}
		e, err = i.explain(r, f, shown, at)
		return err
	})
	return e, err
}

func (i *Issuer) explain(r storage.Reader, f *family, shown refreshToken, at instant) (api.Explanation, error) {
	e := api.Explanation{Generation: &shown.generation}
	if f == nil {
		e.Verdict = "gone"
		e.Why = fmt.Sprintf("the record of its session %s was deleted: the session expired or ended some time ago", shown.family)
		return e, nil
	}
	session := i.show(f, at.now)
	e.Session = &session
	if session.State != "live" {
		e.Verdict, e.Why = session.State, "its session has ended: "+session.Reason
		return e, nil
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	age := max(at.served-f.rec.made, 0)
	switch f.rec.classify(shown.generation, age, limits.Grace) {
	case tokenRolledBack:
		e.Verdict = "rolled_back"
		e.Why = fmt.Sprintf("it is generation %d, and the current one is %d: the store is older than the token. To present it would end the session", shown.generation, f.rec.g)
		return e, nil
	case tokenReplayed:
		e.Verdict = "replay"
		e.Why = fmt.Sprintf("it is generation %d and was replaced twice, the current one is %d: the session has two holders. To present it would end the session", shown.generation, f.rec.g)
		return e, nil
	case tokenLate:
		e.Verdict = "late_retry"
		e.Why = fmt.Sprintf("it was replaced %s ago, and its grace is %s. To present it would end the session", age.Round(time.Second), limits.Grace)
		return e, nil
	case tokenInGrace:
		e.Verdict = "grace"
		e.Why = fmt.Sprintf("it was replaced %s ago; for another %s it is answered with the same successor", age.Round(time.Second), (limits.Grace - age).Round(time.Second))
	case tokenCurrent:
		e.Verdict, e.Why = "current", "it is the current one; when it is presented, it is replaced by the next"
	}
	return i.explainTerms(r, f, e)
}

// explainTerms checks what Refresh checks last: what the client is allowed.
func (i *Issuer) explainTerms(r storage.Reader, f *family, e api.Explanation) (api.Explanation, error) {
	var refused *refusal.Refusal
	switch err := i.stillEntitled(r, f); {
	case err == nil:
		e.Good = true
	case !errors.As(err, &refused):
		return e, err
	case refused.Cause != nil:
		e.Verdict, e.Why = "refused", refused.Cause.Error()
	default:
		e.Verdict, e.Why = "refused", refused.Hint
	}
	return e, nil
}
