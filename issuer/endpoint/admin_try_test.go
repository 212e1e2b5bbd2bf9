package endpoint

import (
	"strings"
	"testing"

	"keymill/issuer/applied"
)

// TestATriedRequestChangesNothing: with dry_run a request is decided as without it, and nothing is written, not even
// an audit record.
func TestATriedRequestChangesNothing(t *testing.T) {
	var marks applied.Marks
	w := newWorldAt(t, testIssuer, func(c *Config) { c.Applied = &marks })
	marks = applied.Marks{Store: w.store, Now: w.keys.Now}
	w.expect(200, "PUT", "/admin/v1/applied?kind=client&name=old", "")
	w.expect(201, "PUT", "/admin/v1/audience?name=used", `{"alg": "EdDSA"}`)
	w.expect(201, "PUT", "/admin/v1/audience?name=free", `{"alg": "EdDSA"}`)
	w.expect(201, "PUT", "/admin/v1/client?id=page", `{"public": true, "audiences": ["used"]}`)
	w.expect(201, "POST", "/admin/v1/users", `{"user_id": "70", "username": "bob"}`)
	audit := func() string { return w.expect(200, "GET", "/admin/v1/audit?limit=1000", "").body }
	before := audit()
	for _, tt := range []struct {
		status             int
		method, path, body string
	}{
		{204, "PUT", "audience?name=new", `{"alg": "EdDSA"}`},
		{204, "PUT", "audience?name=used", `{"alg": "EdDSA", "ttl": "1h"}`},
		{204, "PUT", "audience?name=used", `{"alg": "EdDSA"}`}, // changes nothing anyway
		{400, "PUT", "audience?name=new", `{"alg": "none"}`},
		{204, "DELETE", "audience?name=free", ""},
		{409, "DELETE", "audience?name=used", ""},
		{404, "DELETE", "audience?name=new", ""},
		{204, "PUT", "client?id=new", `{"public": true, "audiences": ["free"]}`},
		{400, "PUT", "client?id=new", `{"public": true, "audiences": ["none"]}`},
		{204, "DELETE", "client?id=page", ""},
		{204, "DELETE", "client?id=page&unused=true", ""},
		{204, "PATCH", "user?user=id:70", `{"claims": {"a": 1}}`},
		{400, "PATCH", "user?user=id:70", `{"claims": {"sub": 1}}`},
		{204, "PUT", "applied?kind=client&name=page", ""},
		{400, "PUT", "applied?kind=user&name=page", ""},
		{204, "DELETE", "applied?kind=client&name=old", ""},
		{404, "DELETE", "applied?kind=client&name=new", ""},
	} {
		separator := "?"
		if strings.Contains(tt.path, "?") {
			separator = "&"
		}
		if got := w.expect(tt.status, tt.method, "/admin/v1/"+tt.path+separator+"dry_run=true", tt.body); tt.status == 204 && got.body != "" {
			t.Errorf("%s %s answers %s", tt.method, tt.path, got.body)
		}
	}
	for _, wrong := range []string{"dry_run=false", "dry_run=", "dry_run=true&dry_run=true", "dry_run=true&%zz"} {
		w.expect(400, "PUT", "/admin/v1/audience?name=new&"+wrong, `{"alg": "EdDSA"}`)
	}
	w.expect(400, "POST", "/admin/v1/audiences?dry_run=true", `{"name": "new", "alg": "EdDSA"}`)
	if after := audit(); after != before {
		t.Errorf("the audit log was %s\nand is %s", before, after)
	}
	w.expect(404, "GET", "/admin/v1/audience?name=new", "")
	w.expect(201, "PUT", "/admin/v1/audience?name=new", `{"alg": "EdDSA"}`)
}
