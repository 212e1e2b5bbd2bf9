package issuer

import (
	"context"
	"slices"
	"strings"

	"keymill/issuer/api"
	"keymill/issuer/names"
	"keymill/issuer/refusal"
	"keymill/issuer/username"
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

// FindAuditedUser replaces f.User, the name or the id of a user, by the id. If no user has that name or
// id now, the newest 10,000 records say which user had it. If they name several, it is refused; if
// they name none, f.Name selects the older records that have the name.
func FindAuditedUser(ctx context.Context, s storage.Store, f *audit.Filter) error {
	word, isID := strings.CutPrefix(f.User, username.IDPrefix)
	f.User = word
	if isID || word == "" {
		return nil
	}
	var named string
	if err := s.View(ctx, func(r storage.Reader) (err error) {
		normal, _ := username.Normal(word)
		named, err = idOfName(r, normal)
		switch {
		case err != nil:
			return err
		case named != "" && named != word && names.IsUser(word):
			if others, err := r.GetAll(userKey(word)); err != nil {
				return err
			} else if others[0] != nil {
				return refuseAmbiguous(word, named)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if named != "" {
		f.User = named
		return nil
	}
	f.Name, _ = username.Normal(word)
	return findFormerUser(ctx, s, f)
}

// findFormerUser replaces f.User by the id of the user who had the name f.Name or the id f.User.
func findFormerUser(ctx context.Context, s storage.Store, f *audit.Filter) error {
	p, err := audit.Read(ctx, s, audit.Query{Filter: audit.Filter{User: f.User, Name: f.Name, Action: "user"}, Limit: 1000})
	if err != nil {
		return err
	}
	var ids []string
	for _, r := range p.Records {
		ids = append(ids, username.IDPrefix+r.Target)
	}
	slices.Sort(ids)
	switch ids = slices.Compact(ids); len(ids) {
	case 0:
	case 1:
		f.User = strings.TrimPrefix(ids[0], username.IDPrefix)
	default:
		return refusal.New("invalid_request", "%s is a name that several users had: write one of %s", refusal.Quoted(f.User), strings.Join(ids, ", "))
	}
	return nil
}

func refuseAmbiguous(word, named string) error {
	return refusal.New("invalid_request", "%s is the name of user %s and the id of another user: write %s%s or %s%s", word, named, username.IDPrefix, named, username.IDPrefix, word)
}
