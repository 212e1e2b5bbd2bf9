package claim

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"keymill/issuer/refusal"
)

func objectOf(t *testing.T, text string) (m map[string]json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// said returns what a client reads of a refusal, "" if err is none.
func said(err error) string {
	if r := (*refusal.Refusal)(nil); errors.As(err, &r) && r.Code == "invalid_request" {
		return r.Description
	}
	return ""
}

// TestClaimsOfAClientAreFlat: an object could have the names of the server within.
// R55.
func TestClaimsOfAClientAreFlat(t *testing.T) {
	good := objectOf(t, `{"policy":"readwrite","n":1.50,"on":true,"off":false,"none":null,"list":["a",1,true,null],"empty":[],"text":"{}"}`)
	raw, err := CheckFlat(good)
	if err != nil || !PossibleFlat(raw) || !Possible(raw) || !strings.Contains(string(raw), `"n":1.50`) {
		t.Errorf("%s, %v", raw, err)
	}
	if raw, err := CheckFlat(nil); raw != nil || err != nil {
		t.Errorf("no claims: %s, %v", raw, err)
	}
	many := map[string]json.RawMessage{}
	for n := range maxClaims + 1 {
		many[fmt.Sprint("c", n)] = json.RawMessage("1")
	}
	for want, claims := range map[string]map[string]json.RawMessage{
		"claim 'x' must be a text, a number":    objectOf(t, `{"x":{}}`),
		"claim 'y' must be a text, a number":    objectOf(t, `{"y":{"sub":"admin"}}`),
		"claim 'z' must be a text, a number":    objectOf(t, `{"z":[{"sub":"admin"}]}`),
		"claim 'w' must be a text, a number":    objectOf(t, `{"w":[["a"]]}`),
		"claim 'v' must be a text, a number":    objectOf(t, `{"v":[[]]}`),
		"21 claims are too many":                many,
		"at most 1024 are allowed":              objectOf(t, `{"x":"`+strings.Repeat("x", 1100)+`"}`),
		"differs from another one only in case": objectOf(t, `{"role":1,"Role":2}`),
		"claim name '' must be":                 objectOf(t, `{"":1}`),
		"claim name 'a b' must be":              objectOf(t, `{"a b":1}`),
		"must be 1 to 200 visible ASCII":        objectOf(t, `{"ſub":1}`), // U+017F is the letter s if case is ignored
		"claim 'n' is not JSON":                 {"n": json.RawMessage("01")},
		"claim 'm' is not JSON":                 {"m": json.RawMessage("1 2")},
		"claim '_claim_sources' is reserved":    objectOf(t, `{"_claim_sources":"x"}`),
	} {
		if _, err := CheckFlat(claims); !strings.Contains(said(err), want) || len(said(err)) > 400 {
			t.Errorf("%q, want %q", said(err), want)
		}
	}
	for _, name := range []string{"iss", "SUB", "Aud", "eXp", "nbf", "iat", "jti", "client_id", "Client_ID", "scope", "SCOPE", "sid", "token_type", "user_id", "cnf", "typ", "scp"} {
		if _, err := CheckFlat(map[string]json.RawMessage{name: []byte("1")}); !strings.Contains(said(err), "'"+name+"' is reserved") {
			t.Errorf("claim %s: %v", name, err)
		}
	}
	for _, raw := range []string{`{"x":{}}`, `{"x":[[1]]}`, `{ "x":1}`, `{}`, `{"x":1,"x":2}`, `null`, ``, `{"x":"` + strings.Repeat("x", 1100) + `"}`} {
		if PossibleFlat(json.RawMessage(raw)) {
			t.Errorf("a record with %.40s is possible", raw)
		}
	}
}

// TestAMappingNamesClaimsThatUsersCanHave, each once, and none of the server's.
// R55.
func TestAMappingNamesClaimsThatUsersCanHave(t *testing.T) {
	own := objectOf(t, `{"policy":"x"}`)
	if err := (Mapping{"roles": "groups", "mail": "email", "email": "work_email"}).Check(own); err != nil {
		t.Error(err)
	}
	many := Mapping{}
	for n := range maxClaims + 1 {
		many[fmt.Sprint("c", n)] = fmt.Sprint("u", n)
	}
	for want, m := range map[string]Mapping{
		"claim 'sub' is reserved":                                     {"sub": "groups"},
		"claim 'Scope' is reserved":                                   {"Scope": "groups"},
		"claim 'roles' is mapped from 'sub', which":                   {"roles": "sub"},
		"claim 'roles' is mapped from 'SUB', which":                   {"roles": "SUB"},
		"claim 'roles' is mapped from '', which":                      {"roles": ""},
		"claim 'roles' is mapped from 'a b', which":                   {"roles": "a b"},
		"claim name '' must be":                                       {"": "groups"},
		"claims 'a' and 'b' are both mapped from 'groups'":            {"a": "groups", "b": "groups"},
		"claim 'roles' differs from another one only in case":         {"Roles": "a", "roles": "b"},
		"claim 'POLICY' differs from another one only in case":        {"POLICY": "a"},
		"claim 'policy' is there twice: it has a value and is mapped": {"policy": "a"},
		"a mapping of 21 claims is too long":                          many,
	} {
		if err := m.Check(own); !strings.Contains(said(err), want) {
			t.Errorf("%v: %q, want %q", m, said(err), want)
		}
	}
	if (Mapping{"a b": "x"}).Possible() || (Mapping{"x": ""}).Possible() || many.Possible() || !(Mapping{"sub": "x"}).Possible() {
		t.Error("impossible mappings are possible, or one of a time with fewer reserved names is not")
	}
}

func TestAMappingLeavesOutWhatItDoesNotName(t *testing.T) {
	const user = `{"email":"a@example.com","groups":["x"],"level":3}`
	for want, m := range map[string]Mapping{
		user:                        nil,
		`{"roles":["x"]}`:           {"roles": "groups"},
		`{"email":["x"],"level":3}`: {"email": "groups", "level": "level", "gone": "missing"},
		``:                          {"x": "missing"},
	} {
		if got := string(m.Apply(json.RawMessage(user))); got != want {
			t.Errorf("%v: %s, want %s", m, got, want)
		}
	}
	if got := (Mapping{"x": "y"}).Apply(nil); got != nil {
		t.Errorf("a user without claims: %s", got)
	}
}

// TestNoClaimIsThereTwice: the first layer wins, in any case, and what is left out is told.
// R55.
func TestNoClaimIsThereTwice(t *testing.T) {
	layers := []Layer{
		{"audience", json.RawMessage(`{"a":1,"policy":"x"}`)}, {"client", json.RawMessage(`{"Policy":"y","b":2}`)},
		{"user", json.RawMessage(`{"A":3,"b":4,"c":5,"sub":"evil"}`)}, {Of: "user"},
	}
	got, left := (&Token{Subject: "7"}).Payload(layers...)
	const want = `{"iss":"","sub":"7","aud":"","client_id":"","exp":0,"iat":0,"jti":"","a":1,"b":2,"c":5,"policy":"x"}`
	if string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	if wantLeft := []LeftOut{{"client", "Policy"}, {"user", "A"}, {"user", "b"}}; !reflect.DeepEqual(left, wantLeft) {
		t.Errorf("left out are %v, want %v", left, wantLeft)
	}
	if Common(json.RawMessage(`{"a":1,"Policy":2}`), json.RawMessage(`{"policy":1}`)) != "Policy" || Common(nil, json.RawMessage(`{"a":1}`)) != "" {
		t.Error("Common does not ignore case, or finds what is not there")
	}
}

func TestWhatIsSaidOnceIsForgottenInTheEnd(t *testing.T) {
	var s Seen
	for n := range maxSeen {
		if key := fmt.Sprint(n); !s.First(key) || s.First(key) {
			t.Fatalf("key %d", n)
		}
	}
	if !s.First("more") || len(s.keys) != 1 {
		t.Errorf("it remembers %d keys", len(s.keys))
	}
}
