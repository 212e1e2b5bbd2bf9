package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// Explain returns what the server would answer to a refresh token now. It changes nothing.
func (i *Issuer) Explain(ctx context.Context, token refusal.Secret) (api.Explanation, error) {
	shown, err := i.refreshSecrets.Decode(ctx, token)
	switch {
	case errors.Is(err, refreshtoken.ErrMalformed):
		return api.Explanation{State: "malformed", Why: fmt.Sprintf("it is not a refresh token of this server: they begin with %s and have %d characters", refreshtoken.Prefix, refreshtoken.Chars)}, nil
	case err != nil && !refreshtoken.IsInvalid(err):
		return api.Explanation{}, err
	case err != nil:
		return api.Explanation{State: "forged", Why: "it looks like a refresh token, but its MAC is wrong: it was changed, or it comes from another Keymill server"}, nil
	}
	var e api.Explanation
	at := i.times()
	err = i.store.View(ctx, func(r storage.Reader) error {
		f, err := i.familyWithClient(r, shown.Family)
		if err != nil {
			return err
		}
		e, err = i.explain(r, f, shown, at)
		return err
	})
	return e, err
}

func (i *Issuer) explain(r storage.Reader, f *family, shown refreshtoken.Token, at times) (api.Explanation, error) {
	e := api.Explanation{Generation: &shown.Generation}
	if f == nil {
		e.State = "gone"
		e.Why = fmt.Sprintf("the record of its session %s was deleted: the session expired or ended some time ago", shown.Family)
		return e, nil
	}
	session := i.show(f, at.now)
	e.Session = &session
	if session.State != "live" {
		e.State, e.Why = session.State, "its session has ended: "+session.Reason
		return e, nil
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	age := max(at.served-f.rec.rotatedAtServed, 0)
	switch f.rec.classify(shown.Generation, age, limits.Grace) {
	case tokenRolledBack:
		e.State = "rolled_back"
		e.Why = fmt.Sprintf("it is generation %d, and the current one is %d: the token is newer than the store, so the store was restored from an old copy. Using the token would end the session", shown.Generation, f.rec.generation)
		return e, nil
	case tokenReplayed:
		e.State = "replay"
		e.Why = fmt.Sprintf("it is generation %d and was replaced more than once (the current one is %d), so two parties have tokens of the session. Using the token would end the session", shown.Generation, f.rec.generation)
		return e, nil
	case tokenLate:
		e.State = "late_retry"
		e.Why = fmt.Sprintf("it was replaced %s ago, and the grace is %s. Using it would end the session", age.Round(time.Second), limits.Grace)
		return e, nil
	case tokenInGrace:
		e.State = "grace"
		e.Why = fmt.Sprintf("it was replaced %s ago; for another %s it still gets the current token", age.Round(time.Second), (limits.Grace - age).Round(time.Second))
	case tokenCurrent:
		e.State, e.Why = "current", "it is the current token of its session; the next refresh replaces it"
	}
	return i.explainTerms(r, f, e)
}

// explainTerms checks what Refresh checks last: what the client is allowed.
func (i *Issuer) explainTerms(r storage.Reader, f *family, e api.Explanation) (api.Explanation, error) {
	var refused *refusal.Refusal
	switch err := i.checkEntitlement(r, f); {
	case err == nil:
		e.Accepted = true
	case !errors.As(err, &refused):
		return e, err
	case refused.Cause != nil:
		e.State, e.Why = "refused", refused.Cause.Error()
	default:
		e.State, e.Why = "refused", refused.Description
	}
	return e, nil
}
