package admin

import (
	"net/http"

	"keymill/issuer/api"
)

func (a *API) status(r *http.Request) (any, error) {
	issues, keys := a.cfg.Issues(), a.cfg.Keys.Status()
	var size int64
	if a.cfg.StoreBytes != nil {
		size = a.cfg.StoreBytes()
	}
	warnings := []api.Warning{}
	if a.cfg.Warnings != nil {
		warnings = append(warnings, a.cfg.Warnings(r.Context())...)
	}
	return api.Status{
		Version: a.cfg.Version, Issuer: a.cfg.Issuer.URL(), Ready: len(issues) == 0, Issues: issues, Warnings: warnings,
		ClockFrozen: keys.Frozen, Now: instant(keys.Now), StoreBytes: size,
	}, nil
}

const (
	defaultAuditRecords = 50
	maxAuditRecords     = 1000
)

// audit returns the records after a sequence number, or else the newest.
func (a *API) audit(r *http.Request) (any, error) {
	limit, err := queryNumber(r, "limit", numbers{fallback: defaultAuditRecords, lowest: 1, highest: maxAuditRecords})
	if err != nil {
		return nil, err
	}
	var found api.AuditRecords
	if !r.URL.Query().Has("after") {
		found.Records, err = a.cfg.Issuer.AuditLast(r.Context(), int(limit))
		return found, err
	}
	after, err := queryNumber(r, "after", numbers{highest: 1 << 62})
	if err != nil {
		return nil, err
	}
	found.Records, err = a.cfg.Issuer.AuditTail(r.Context(), after, int(limit))
	return found, err
}
