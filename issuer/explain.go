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

// Explain looks at a refresh token and changes nothing. The verdicts are "malformed",
// "forged", "gone", "revoked", "expired", "rolled_back", "replay", "late_retry", "refused",
// "grace" and "current"; the last two are good.
func (i *Issuer) Explain(ctx context.Context, token refusal.Secret) (api.Explanation, error) {
	shown, err := i.refreshSecrets.open(token)
	switch {
	case errors.Is(err, errNotRefresh):
		return api.Explanation{Verdict: "malformed", Why: fmt.Sprintf("it is not a refresh token of this server: those begin with %s and have %d characters", refreshPrefix, refreshChars)}, nil
	case err != nil:
		return api.Explanation{Verdict: "forged", Why: "it looks like a refresh token, but this store did not seal it: it comes from another database, or was changed"}, nil
	}
	var e api.Explanation
	now, served := i.keys.Now(), i.keys.ServedTime()
	err = i.store.View(ctx, func(r storage.Reader) error {
		f, err := i.wholeFamily(r, shown.family)
		if err != nil {
			return err
		}
		e, err = i.explain(r, f, shown, now, served)
		return err
	})
	return e, err
}

func (i *Issuer) explain(r storage.Reader, f *family, shown refreshToken, now time.Time, served time.Duration) (api.Explanation, error) {
	e := api.Explanation{Generation: &shown.generation}
	if f == nil {
		e.Verdict = "gone"
		e.Why = fmt.Sprintf("its session %s is not kept any more: it expired, or its time to be explained is over", shown.family)
		return e, nil
	}
	session := i.show(f, now)
	e.Session = &session
	if session.State != "live" {
		e.Verdict, e.Why = session.State, "its session has ended: "+session.Reason
		return e, nil
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	age := max(served-f.rec.made, 0)
	switch f.rec.classify(shown.generation, age, limits.Grace) {
	case tokenRolledBack:
		e.Verdict = "rolled_back"
		e.Why = fmt.Sprintf("it is generation %d, and the store knows only %d: the store is older than the token. Presented, it would end the session", shown.generation, f.rec.g)
		return e, nil
	case tokenReplayed:
		e.Verdict = "replay"
		e.Why = fmt.Sprintf("it is generation %d and was replaced twice, the current one is %d: two hold this session. Presented, it would end the session", shown.generation, f.rec.g)
		return e, nil
	case tokenLate:
		e.Verdict = "late_retry"
		e.Why = fmt.Sprintf("it was replaced %s ago, and its grace is %s. Presented, it would end the session", age.Round(time.Second), limits.Grace)
		return e, nil
	case tokenInGrace:
		e.Verdict = "grace"
		e.Why = fmt.Sprintf("it was replaced %s ago; for %s more it gets the same successor again", age.Round(time.Second), (limits.Grace - age).Round(time.Second))
	case tokenCurrent:
		e.Verdict, e.Why = "current", "it is the current one: presented, it is replaced by the next"
	}
	return i.explainTerms(r, f, e)
}

// explainTerms looks at what is checked last.
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
