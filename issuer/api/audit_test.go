package api

import (
	"net/url"
	"testing"
	"time"

	"keymill/storage/audit"
)

// A client and the server agree about every query.
func TestAnAuditQueryIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)
	for _, q := range []audit.Query{
		{Limit: 1},
		{Limit: 1000, Forward: true},
		{Limit: 5, Forward: true, From: audit.Cursor{Seq: 17, Key: "20260301T120000.000000000Z-0123456789abcdef"}},
		{Limit: 5, From: audit.Cursor{Seq: 17}},
		{Limit: 5, Filter: audit.Filter{User: "a b&c", Client: "ö", Action: "key", Since: at, Until: at.Add(time.Hour)}},
	} {
		v, err := url.ParseQuery(FormatAuditQuery(q).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseAuditQuery(v); err != nil || got != q {
			t.Errorf("got %+v, %v, want %+v", got, err, q)
		}
	}
}
