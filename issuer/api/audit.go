package api

import (
	"net/url"
	"strconv"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage/audit"
)

// AuditRecords are records of the audit log, oldest first.
type AuditRecords struct {
	Records []audit.Record `json:"records"`
	Next    string         `json:"next"` // where the next page begins: the parameter after, or before
	More    bool           `json:"more"` // there can be further records
	Last    uint64         `json:"last"` // number of the newest record in the chain
}

// Limits of one page of the audit log.
const (
	defaultAuditRecords = 50
	maxAuditRecords     = 1000
)

// AuditParameters returns the names of the parameters that ParseAuditQuery reads.
func AuditParameters() []string {
	return []string{"limit", "after", "before", "since", "until", "user", "client", "target", "by", "action"}
}

// ParseAuditQuery reads the query of GET /admin/v1/audit. Without after the records are the newest, or
// those before before; with after, which is 0 or a Next, they are the oldest ones after it. since,
// until, user, client, target, by, action and limit select.
func ParseAuditQuery(v url.Values) (q audit.Query, err error) {
	for name := range v {
		if v.Get(name) == "" {
			return q, refusal.New("invalid_request", "parameter '%.100s' is empty", refusal.Quoted(name))
		}
	}
	q.User, q.Client, q.Action, q.Limit = v.Get("user"), v.Get("client"), v.Get("action"), defaultAuditRecords
	q.Target, q.By = v.Get("target"), v.Get("by")
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > maxAuditRecords {
			return q, refusal.New("invalid_request", "parameter 'limit' must be a number from 1 to %d", maxAuditRecords)
		}
	}
	place := v.Get("before")
	if q.Forward = v.Has("after"); q.Forward {
		if place != "" {
			return q, refusal.New("invalid_request", "parameters 'after' and 'before' cannot be combined")
		}
		place = v.Get("after")
	}
	if place != "" {
		if q.From, err = audit.ParseCursor(place); err != nil {
			return q, refusal.New("invalid_request", "%s", refusal.Quoted(err.Error()))
		}
	}
	for name, at := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := v.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return q, refusal.New("invalid_request", "parameter '%s' must be a time such as 2027-01-31T00:00:00Z", name)
			}
		}
	}
	return q, nil
}

// FormatAuditQuery returns the query of GET /admin/v1/audit for q.
func FormatAuditQuery(q audit.Query) url.Values {
	v := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	if q.Forward {
		v.Set("after", q.From.String())
	} else if q.From != (audit.Cursor{}) {
		v.Set("before", q.From.String())
	}
	for name, value := range map[string]string{"user": q.User, "client": q.Client, "target": q.Target, "by": q.By, "action": q.Action} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return v
}
