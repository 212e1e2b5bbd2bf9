package issuer

import (
	"context"
	"strings"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
)

// Audit returns the records of the audit log that q selects. q.User is the name or the id of a user.
func (i *Issuer) Audit(ctx context.Context, q audit.Query) (api.AuditRecords, error) {
	if err := FindAuditedUser(ctx, i.store, &q.Filter); err != nil {
		return api.AuditRecords{}, err
	}
	p, err := audit.Read(ctx, i.store, q)
	return api.AuditRecords{
		Records: append([]audit.Record{}, p.Records...), Next: p.Next.String(), More: p.More, Last: p.Last,
	}, err
}

// FindAuditedUser replaces f.User, the name or the id of a user, by the id. If no user has that name,
// it can be the id or the name of a user who was removed.
func FindAuditedUser(ctx context.Context, s storage.Store, f *audit.Filter) error {
	word, isID := strings.CutPrefix(f.User, idPrefix)
	f.User = word
	if isID || word == "" {
		return nil
	}
	return s.View(ctx, func(r storage.Reader) error {
		named, err := idOfName(r, word)
		switch {
		case err != nil:
			return err
		case named == "":
			f.Name, _ = normalName(word)
			return nil
		case named != word && validUserID(word):
			if others, err := r.GetAll(userKey(word)); err != nil {
				return err
			} else if others[0] != nil {
				return refuseAmbiguous(word, named)
			}
		}
		f.User = named
		return nil
	})
}

func refuseAmbiguous(word, named string) error {
	return refusal.New("invalid_request", "%s is the name of user %s and the id of another user: write %s%s or %s%s", word, named, idPrefix, named, idPrefix, word)
}

// AuditLast returns the newest n audit records, oldest first.
func (i *Issuer) AuditLast(ctx context.Context, n int) ([]audit.Record, error) {
	return audit.Last(ctx, i.store, n)
}
