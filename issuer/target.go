package issuer

import (
	"slices"

	"keymill/issuer/audience"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// chooseAudience returns the audience that the client asked for, or the only one of allowed. An
// audience that does not exist is refused like one that is not allowed.
func (i *Issuer) chooseAudience(r storage.Reader, asked string, allowed []string) (string, *audienceRecord, error) {
	switch {
	case asked == "" && len(allowed) == 1:
		asked = allowed[0]
	case asked == "":
		return "", nil, refusal.New("invalid_target", "this client has %d audiences: name one with resource or audience", len(allowed))
	case !slices.Contains(allowed, asked):
		return "", nil, refusal.New("invalid_target", "this client is not allowed that audience")
	}
	if rec := i.builtIn(asked); rec != nil {
		if !i.adminAccepted {
			return "", nil, refusal.New("invalid_target", "this server accepts no tokens for %s: its setting admin.listen is empty", asked)
		}
		return asked, rec, nil
	}
	rec, err := i.audienceOf(r, asked)
	if err == nil && rec == nil {
		key := audience.Key(asked)
		err = record.Missing(storage.ErrNotFound, key, "a client names the audience")
	}
	return asked, rec, err
}
