package adminapi

import (
	"context"
	"net/http"

	"keymill/issuer/api"
	"keymill/storage/audit"
)

// Audit returns a page of the audit log. It is an auditlog.Source.
func (a *Client) Audit(ctx context.Context, q audit.Query) (audit.Page, error) {
	answer, _, err := Ask[api.AuditRecords](ctx, a, http.MethodGet, "audit?"+api.FormatAuditQuery(q).Encode(), nil)
	if err != nil {
		return audit.Page{}, err
	}
	next, err := audit.ParseCursor(answer.Next)
	return audit.Page{Records: answer.Records, Next: next, More: answer.More, Last: answer.Last}, err
}
