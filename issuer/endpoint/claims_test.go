package endpoint

import (
	"strings"
	"testing"
)

// TestTheAdminAPISetsClaims of clients and audiences, replaces them as a whole, and refuses in one sentence what
// would shadow a claim of the server.
func TestTheAdminAPISetsClaims(t *testing.T) {
	w := newWorld(t)
	const client, audience = "/admin/v1/client?id=worker", "/admin/v1/audience?name=orders"
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string // a part of the answer; "!" and what must not be there
	}{
		{"POST", "/admin/v1/clients", `{"client_id":"worker","grants":["client_credentials"],"audiences":["orders"],"claims":{"policy":"rw","n":1.50,"l":["a",null]}}`, 201, `"claims":{"l":["a",null],"n":1.50,"policy":"rw"}`},
		{"PATCH", client, `{"idle":""}`, 200, `"policy":"rw"`},
		{"PATCH", client, `{"claims":{"level":3}}`, 200, `"claims":{"level":3}`},
		{"PUT", client, `{"grants":["client_credentials"],"audiences":["orders"],"claims":{"level":4}}`, 200, `"claims":{"level":4}`},
		{"PUT", client, `{"grants":["client_credentials"],"audiences":["orders"]}`, 200, `!"claims"`},
		{"PATCH", client, `{"claims":{"level":5},"grants":["refresh_token"]}`, 200, `"warnings":["the claims of client worker are in no token: `},
		{"PATCH", client, `{"claims":{},"grants":["client_credentials"]}`, 200, `!"claims"`},

		{"PATCH", audience, `{"claims":{"tenant":"x"},"claim_map":{"roles":"groups"}}`, 200, `"claims":{"tenant":"x"},"claim_map":{"roles":"groups"}`},
		{"PATCH", audience, `{"ttl":"10m"}`, 200, `"claim_map":{"roles":"groups"}`},
		{"PATCH", audience, `{"claims":null,"claim_map":{}}`, 200, `!claim_map`},
		{"PUT", audience, `{"alg":"EdDSA","scopes":["read","write"],"claim_map":{"roles":"groups"}}`, 200, `!"claims":`},

		{"PATCH", client, `{"claims":{"sub":"admin"}}`, 400, "claim 'sub' is reserved"},
		{"PATCH", client, `{"claims":{"\u0053UB":"admin"}}`, 400, "claim 'SUB' is reserved"},
		{"PATCH", client, `{"claims":{"a":1,"\u0061":2}}`, 400, "claims"},
		{"PATCH", client, `{"claims":{"a":{"sub":"admin"}}}`, 400, "claim 'a' must be a text, a number"},
		{"PATCH", client, `{"claims":["a"]}`, 400, "claims"},
		{"PATCH", client, `{"claims":{"a":"` + strings.Repeat("x", 1025) + `"}}`, 400, "at most 1024 are allowed"},
		{"PATCH", audience, `{"claim_map":{"aud":"groups"}}`, 400, "claim 'aud' is reserved"},
		{"PATCH", audience, `{"claim_map":{"a":"b","a":"c"}}`, 400, "claim_map"},
		{"PATCH", audience, `{"claim_map":{"a":1}}`, 400, "claim_map"},
		{"PATCH", audience, `{"claims":{"roles":1}}`, 400, "claim 'roles' is there twice: it has a value and is mapped"},
	} {
		a := w.expect(tt.status, tt.method, tt.path, tt.body)
		if absent, not := strings.CutPrefix(tt.want, "!"); not && strings.Contains(a.body, absent) || !not && !strings.Contains(a.body, tt.want) {
			t.Errorf("%s %s %.80s: %s, want %s", tt.method, tt.path, tt.body, a.body, tt.want)
		}
	}
}
