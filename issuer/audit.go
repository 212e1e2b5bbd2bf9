package issuer

import (
	"context"

	"keymill/issuer/api"
	"keymill/issuer/loginname"
	"keymill/storage/audit"
)

// Audit returns the records of the audit log that q selects. q.User is the name or the id of a user.
func (i *Issuer) Audit(ctx context.Context, q audit.Query) (api.AuditRecords, error) {
	if err := loginname.FindAudited(ctx, i.store, &q.Filter); err != nil {
		return api.AuditRecords{}, err
	}
	p, err := audit.Read(ctx, i.store, q)
	return api.AuditRecords{
		Records: append([]audit.Record{}, p.Records...), Next: p.Next.String(), More: p.More, Last: p.Last,
	}, err
}
