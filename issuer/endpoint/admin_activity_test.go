package endpoint

import (
	"encoding/json"
	"testing"

	"keymill/issuer/api"
)

// TestAdminAPICountsTheActivity of each way to a token, without metrics: a token, a refusal, and a refresh token that was
// used again.
func TestAdminAPICountsTheActivity(t *testing.T) {
	w := newWorld(t).withAlice()
	counted := func() (sum api.ActivityMinute) {
		t.Helper()
		var list []api.ActivityMinute
		if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/activity", "").body), &list); err != nil || len(list) == 0 {
			t.Fatalf("%d minutes, %v", len(list), err)
		}
		for _, m := range list {
			sum.Tokens, sum.Refusals, sum.Reuses = sum.Tokens+m.Tokens, sum.Refusals+m.Refusals, sum.Reuses+m.Reuses
		}
		return sum
	}
	var first, second string
	for _, step := range []struct {
		what string
		do   func()
		want api.ActivityMinute
	}{
		{"a login", func() { first = w.obtain().Refresh }, api.ActivityMinute{Tokens: 1}},
		{"a login with a cookie", func() { w.loginByCookie() }, api.ActivityMinute{Tokens: 1}},
		{"a service", func() { w.token(w.post(w.good())) }, api.ActivityMinute{Tokens: 1}},
		{"a wrong secret", func() { w.post("grant_type=client_credentials", basic("billing", "wrong")) }, api.ActivityMinute{Refusals: 1}},
		{"a wrong password", func() {
			w.postJSON("/api/token/", map[string]string{"username": "alice", "password": "wrong"})
		}, api.ActivityMinute{Refusals: 1}},
		{"a refresh", func() { second, _ = w.rotate(first).json(t)["refresh_token"].(string) }, api.ActivityMinute{Tokens: 1}},
		{"another", func() { w.token(w.rotate(second)) }, api.ActivityMinute{Tokens: 1}},
		{"a replay", func() { w.rotate(first) }, api.ActivityMinute{Refusals: 1, Reuses: 1}},
		{"a refresh of the ended session", func() { w.rotate(second) }, api.ActivityMinute{Refusals: 1}},
		{"the key set", func() { w.send("GET", "/.well-known/jwks.json", "") }, api.ActivityMinute{}},
	} {
		before := counted()
		step.do()
		after := counted()
		got := api.ActivityMinute{Tokens: after.Tokens - before.Tokens, Refusals: after.Refusals - before.Refusals, Reuses: after.Reuses - before.Reuses}
		if got != step.want {
			t.Errorf("%s: counted %+v, want %+v", step.what, got, step.want)
		}
	}
}
