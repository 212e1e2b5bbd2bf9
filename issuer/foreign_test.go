package issuer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/tally"
	"keymill/jwks"
	"keymill/storage"
)

// foreign returns an access token of client web that a published key has signed and that this program would
// not make, as the holder of an imported or of a stolen key can. change maps a claim to its JSON; "" leaves
// it out. more members follow.
func (w *world) foreign(change map[string]string, more ...string) refusal.Secret {
	w.t.Helper()
	now := w.keys.WallTime()
	claims := map[string]string{
		"iss": `"` + testURL + `"`, "aud": `"orders"`, "client_id": `"web"`, "sub": `"web"`, "jti": `"foreign-1"`,
		"iat": fmt.Sprint(now.Add(-backdate).Unix()), "exp": fmt.Sprint(now.Add(10 * time.Minute).Unix()),
	}
	maps.Copy(claims, change)
	var members []string
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if claims[name] != "" {
			members = append(members, `"`+name+`":`+claims[name])
		}
	}
	payload := "{" + strings.Join(append(members, more...), ",") + "}"
	return refusal.Secret(must[string](w.t)(w.keys.Sign(w.t.Context(), "EdDSA", jwks.TypeAccessToken, []byte(payload), now.Add(10*time.Minute))))
}

// jti returns a change of foreign.
func jti(raw string) map[string]string { return map[string]string{"jti": raw} }

// wantUnchanged runs act and fails the test if it has changed a record, or if a record is damaged.
func (w *world) wantUnchanged(what string, act func()) {
	w.t.Helper()
	before := w.all()
	act()
	for key, value := range w.all() {
		if string(before[key]) != string(value) && key != "clock" {
			w.t.Errorf("%s: the record %q was written", what, key)
		}
	}
}

// wantWhole fails the test if a record of this package is damaged.
func (w *world) wantWhole(what string) {
	w.t.Helper()
	for _, kind := range []string{"denied/", "due/", "family/", "tally/"} {
		if err := w.store.View(w.t.Context(), func(r storage.Reader) error {
			for e, err := range r.Scan(kind, kind[:len(kind)-1]+"0") {
				if err == nil {
					err = CheckRecord(e.Key, e.Value)
				}
				if err != nil {
					w.t.Errorf("%s: %s: %v", what, e.Key, err)
				}
			}
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestATokenWithoutANameIsNotRevokedAlone: no record stands for more than one token. Such a token is active
// until its session, its client or the store ends it.
//
// R63.
func TestATokenWithoutANameIsNotRevokedAlone(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	asker := w.asker("api", "orders")
	p := w.begin("7")
	session := map[string]string{"sub": `"7"`, "sid": `"` + p.session().ID + `"`}
	for what, raw := range map[string]string{
		"missing": "", "empty": `""`, "too long": `"` + strings.Repeat("a", accesstoken.MaxIDBytes+1) + `"`,
		"longer than a key": `"` + strings.Repeat("a", 5000) + `"`, "NUL": `"\u0000"`, "a line break": `"a\nb"`,
		"DEL": `"a\u007f"`, "an escape sequence": `"\u001b[2J"`, "not ASCII": `"é"`, "U+FFFD": `"\ufffd"`,
	} {
		for kind, more := range map[string]map[string]string{"client": {}, "session": session} {
			what := what + ", of a " + kind
			change := jti(raw)
			maps.Copy(change, more)
			token := w.foreign(change)
			w.wantUnchanged(what, func() {
				if why := refused(t, w.Revoke(t.Context(), noSecret, token, home), "unsupported_token_type"); !strings.Contains(why, "jti") {
					t.Errorf("%s: %s", what, why)
				}
			})
			if got := w.introspect("api", asker, token); !got.Active || got.ID != "" {
				t.Errorf("%s: the introspection is %+v, want an active token without jti", what, got)
			}
		}
	}
	if err := w.RevokeClientSessions(t.Context(), "web", "uid:0"); err != nil {
		t.Fatal(err)
	}
	if got := w.introspect("api", asker, w.foreign(jti(""))); got.Active {
		t.Error("the token outlives the sessions of its client")
	}
}

// TestATokenWithANameIsRevokedAlone, whatever printable name another program has given it.
func TestATokenWithANameIsRevokedAlone(t *testing.T) {
	w := newWorld(t)
	w.web()
	asker := w.asker("api", "orders")
	unnamed := w.foreign(jti(""))
	names := []string{"a", "a/b", "/", "../a", "a b", " ", "%2F", strings.Repeat("a", accesstoken.MaxIDBytes), "A", "1", "~"}
	for n, name := range names {
		if err := w.Revoke(t.Context(), noSecret, w.foreign(jti(`"`+name+`"`)), home); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		for other, rest := range names {
			if got := w.introspect("api", asker, w.foreign(jti(`"`+rest+`"`))); got.Active != (other > n) {
				t.Errorf("after %q was revoked, %q: active is %v", name, rest, got.Active)
			}
		}
	}
	if !w.introspect("api", asker, unnamed).Active {
		t.Error("the revocations ended a token without a name")
	}
	w.wantWhole("names")
}

// TestClaimsThatWeNeverWriteDecideNothing: such a token is inactive, and its revocation is answered as that
// of any unknown token, without a write and without a fault.
func TestClaimsThatWeNeverWriteDecideNothing(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	w.user("bob", "8")
	secret := w.service("billing", "orders")
	asker := w.asker("api", "orders")
	mine, long := w.begin("7").session().ID, `"`+strings.Repeat("x", 5000)+`"`
	one := func(name, raw string) map[string]string { return map[string]string{name: raw} }
	of := func(sub, client, sid string) map[string]string {
		return map[string]string{"sub": `"` + sub + `"`, "client_id": `"` + client + `"`, "sid": `"` + sid + `"`}
	}
	rows := map[string]refusal.Secret{
		"sid of another user's session":   w.foreign(of("8", "web", mine)),
		"sid of another client's session": w.foreign(of("7", "billing", mine)),
		"sid of a session, for a client":  w.foreign(of("web", "web", mine)),
		"sid of no session":               w.foreign(of("7", "web", record.NewID(w.keys.Now()).String())),
		"sid of zeros":                    w.foreign(of("7", "web", record.ID{}.String())),
		"sid in capitals":                 w.foreign(of("7", "web", strings.ToUpper(mine))),
		"sid too long":                    w.foreign(one("sid", long)),
		"sid with a slash":                w.foreign(of("7", "web", "../"+mine)),
		"sid with control characters":     w.foreign(one("sid", `"\u0000\n"`)),
		"aud missing":                     w.foreign(one("aud", "")),
		"aud empty":                       w.foreign(one("aud", `""`)),
		"aud too long":                    w.foreign(one("aud", long)),
		"aud with control characters":     w.foreign(one("aud", `"orders\u0000"`)),
		"aud a list of others":            w.foreign(one("aud", `["orders","stock"]`)),
		"client_id missing":               w.foreign(one("client_id", "")),
		"client_id empty":                 w.foreign(one("client_id", `""`)),
		"client_id too long":              w.foreign(one("client_id", long)),
		"client_id with a slash":          w.foreign(one("client_id", `"../client/web"`)),
		"client_id with controls":         w.foreign(one("client_id", `"web\u0000"`)),
		"sub missing":                     w.foreign(one("sub", "")),
		"sub empty":                       w.foreign(one("sub", `""`)),
		"iat missing":                     w.foreign(one("iat", "")),
		"iat 0":                           w.foreign(one("iat", "0")),
		"iat 1":                           w.foreign(one("iat", "1")),
		"iat 1 in a session":              w.foreign(map[string]string{"sub": `"7"`, "sid": `"` + mine + `"`, "iat": "1"}),
		"iat negative":                    w.foreign(one("iat", "-1")),
		"iat in the year 9999":            w.foreign(one("iat", "253402300799")),
		"iat too large":                   w.foreign(one("iat", "1e300")),
		"exp missing":                     w.foreign(one("exp", "")),
		"exp 0":                           w.foreign(one("exp", "0")),
		"exp negative":                    w.foreign(one("exp", "-1")),
		"exp in the year 10000":           w.foreign(one("exp", "253402300800")),
		"exp too large":                   w.foreign(one("exp", "1e400")),
	}
	for _, name := range []string{"jti", "sid", "sub", "client_id", "aud", "iat", "exp"} {
		for _, raw := range []string{"null", "true", "[]", "{}", `["a"]`} {
			rows[name+" "+raw] = w.foreign(one(name, raw))
		}
		rows[name+" twice"] = w.foreign(one(name, `"web"`), `"`+name+`":"web"`)
		rows[name+" twice, escaped"] = w.foreign(nil, `"\u00`+fmt.Sprintf("%x", name[0])+name[1:]+`":"web"`)
		if name == "iat" || name == "exp" {
			rows[name+" a string"] = w.foreign(one(name, `"1700000000"`))
		} else {
			rows[name+" a number"] = w.foreign(one(name, "7"))
		}
	}
	rows["sid twice, escaped"] = w.foreign(one("sid", `"x"`), `"\u0073id":"web"`)
	for what, token := range rows {
		if got := w.introspect("api", asker, token); got != (Introspection{}) {
			t.Errorf("%s: the introspection is %+v", what, got)
		}
		w.wantUnchanged(what, func() {
			for _, shown := range []Credentials{noSecret, {"billing", secret, "client_secret_basic"}} {
				if err := w.Revoke(t.Context(), shown, token, home); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
		err := w.VerifyToken(t.Context(), "web", token)
		refused(t, err, "invalid_grant")
		if reason := (*refusal.Reason)(nil); errors.As(err, &reason) && reason.User != "" && what != "sid of another client's session" { // that is the subject's own
			t.Errorf("%s: the log would name user %s", what, reason.User)
		}
	}
	if !w.introspect("api", asker, w.foreign(nil)).Active {
		t.Error("a token without a fault is inactive, so the test proves nothing")
	}
}

// TestTheSubjectOfAForeignTokenCounts: a user who is disabled, logged out or removed has no active token,
// with a session or without.
//
// R68.
func TestTheSubjectOfAForeignTokenCounts(t *testing.T) {
	for what, end := range map[string]func(w *world) error{
		"nothing": func(w *world) error { return nil },
		"disabled": func(w *world) error {
			_, err := w.SetUser(w.t.Context(), "alice", api.UserChange{Disabled: new(true)}, "uid:0")
			return err
		},
		"disabled and enabled": func(w *world) error {
			_, err := w.SetUser(w.t.Context(), "alice", api.UserChange{Disabled: new(true)}, "uid:0")
			if err == nil {
				_, err = w.SetUser(w.t.Context(), "alice", api.UserChange{Disabled: new(false)}, "uid:0")
			}
			return err
		},
		"logged out": func(w *world) error { _, err := w.LogoutUser(w.t.Context(), "alice", "uid:0"); return err },
		"removed":    func(w *world) error { return w.RemoveUser(w.t.Context(), "alice", "uid:0") },
	} {
		w := newWorld(t)
		w.web()
		w.user("alice", "7")
		asker := w.asker("api", "orders")
		tokens := map[string]refusal.Secret{"7": w.foreign(map[string]string{"sub": `"7"`})}
		for _, sub := range []string{"8", "unknown", "a/b", strings.Repeat("x", 5000), `\u0000`, "é"} {
			tokens[sub] = w.foreign(map[string]string{"sub": `"` + sub + `"`})
		}
		if err := end(w); err != nil {
			t.Fatal(err)
		}
		for sub, token := range tokens {
			if got := w.introspect("api", asker, token); got.Active != (sub != "7" || what == "nothing") {
				t.Errorf("%s: a token of subject %.10q: active is %v", what, sub, got.Active)
			}
		}
	}
}

// TestARevokedForeignTokenStaysRevoked until it expires, however far that is: its entry in the index of the
// clean-up is not the first because its time has one digit more.
func TestARevokedForeignTokenStaysRevoked(t *testing.T) {
	w := newWorld(t)
	w.web()
	asker := w.asker("api", "orders")
	for n, exp := range []string{"4294967295", "4294967296", "4300000000.5", "9223372036", "17179869184", "253402300799"} {
		token := w.foreign(map[string]string{"exp": exp, "jti": fmt.Sprintf(`"far-%d"`, n)})
		if !w.introspect("api", asker, token).Active {
			t.Fatalf("exp %s: inactive before it was revoked", exp)
		}
		if err := w.Revoke(t.Context(), noSecret, token, home); err != nil {
			t.Fatal(err)
		}
		if err := w.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.introspect("api", asker, token).Active {
			t.Errorf("exp %s: active after the clean-up", exp)
		}
	}
	w.wantWhole("far expiries")
}

// TestAForeignTokenDamagesNoSession: beyond the bound of audit records a revocation is a time in the record
// of the session, and every iat gives a possible one that denies the token itself.
func TestAForeignTokenDamagesNoSession(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	asker := w.asker("api", "orders")
	p := w.begin("7")
	w.exhaust(tally.Of{User: "7", Client: "web"}, "token.revoke")
	now := w.keys.WallTime().Add(-backdate).Unix()
	for _, iat := range []string{"1", "315532799", "315532800", "1e9", "1700000000.999999", fmt.Sprint(now-1) + ".5"} {
		token := w.foreign(map[string]string{"sub": `"7"`, "sid": `"` + p.session().ID + `"`, "iat": iat})
		if err := w.Revoke(t.Context(), noSecret, token, home); err != nil {
			t.Errorf("iat %s: %v", iat, err)
		}
		if w.introspect("api", asker, token).Active {
			t.Errorf("iat %s: active after it was revoked", iat)
		}
		w.wantWhole("iat " + iat)
	}
	if n := w.records("denied/"); n != 0 {
		t.Errorf("%d records of single tokens, so the test proves nothing", n)
	}
	p.rotate()
}
