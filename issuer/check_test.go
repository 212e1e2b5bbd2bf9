package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/client"
	"keymill/issuer/due"
	"keymill/issuer/gone"
	"keymill/issuer/loginname"
	"keymill/issuer/loginterms"
	"keymill/issuer/names"
	"keymill/issuer/profile"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/secret"
	"keymill/issuer/sessionlist"
	"keymill/storage"
)

// everyRecord returns a store's records of every kind, without their tags.
func everyRecord(w *world) map[string][]byte {
	t := w.t
	t.Helper()
	ctx := t.Context()
	w.web(func(c *api.NewClient) {
		c.Origins, c.Grace, c.Idle, c.Absolute = []string{"https://app.example.com"}, "10s", "24h", "48h"
	})
	w.service("billing", "stock", "count")
	w.withPassword("alice", "7", testPassword, "")
	p, ended := w.begin("7"), w.begin("7")
	_, err := w.refresh(p.grant.Refresh)
	_, err2 := w.RotateSecret(ctx, "billing", time.Hour, "test")
	_, err3 := w.RevokeSession(ctx, ended.grant.Session, "test")
	_, err4 := w.SetUser(ctx, "7", api.UserChange{Claims: &api.Claims{"role": json.RawMessage(`{"a":[1]}`)}}, "test")
	w.withPassword("bob", "8", testPassword, "")
	if err := errors.Join(err, err2, err3, err4, w.Revoke(ctx, noSecret, refusal.Secret(p.grant.AccessToken), home), w.RemoveUser(ctx, "8", "test"), w.RevokeAllSessions(ctx, "test")); err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for key, stored := range w.all() {
		all[key] = stored[:len(stored)-tagBytes]
	}
	return all
}

// changed returns the record with each of the changes, in the form in which this program would write it.
func changed[T any](changes map[string]func(*T)) func(t *testing.T, key string, raw []byte) map[string][]byte {
	return func(t *testing.T, key string, raw []byte) map[string][]byte {
		list := map[string][]byte{}
		for name, change := range changes {
			was, rec := new(T), new(T)
			if err := errors.Join(storage.DecodeJSON(key, raw, was), storage.DecodeJSON(key, raw, rec)); err != nil {
				t.Fatal(err)
			}
			change(rec)
			b, err := json.Marshal(rec)
			if err != nil || reflect.DeepEqual(was, rec) {
				t.Fatalf("%s, %s: nothing is changed, %v", key, name, err)
			}
			if err := storage.DecodeJSON(key, b, new(T)); err != nil {
				t.Fatalf("%s, %s: it has another form: %v", key, name, err)
			}
			list[name] = b
		}
		return list
	}
}

func changedFamily(changes map[string]func(*familyRecord)) func(t *testing.T, key string, raw []byte) map[string][]byte {
	return func(t *testing.T, key string, raw []byte) map[string][]byte {
		list := map[string][]byte{}
		for name, change := range changes {
			rec, err := decodeFamily(key, raw)
			if err != nil {
				t.Fatal(err)
			}
			change(rec)
			list[name] = rec.encode()
		}
		return list
	}
}

var (
	farAway = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	abroad  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))
	inParts = time.Date(2026, 1, 1, 0, 0, 0, 1, time.UTC)
	present = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// impossibles are, for each kind, values that pass every check of form and that no code writes.
var impossibles = map[string]func(t *testing.T, key string, raw []byte) map[string][]byte{
	"audience/stock": changed(map[string]func(*audienceRecord){
		"unknown algorithm":  func(r *audienceRecord) { r.Alg = "HS256" },
		"no algorithm":       func(r *audienceRecord) { r.Alg = "" },
		"no lifetime":        func(r *audienceRecord) { r.TTL = 0 },
		"long lifetime":      func(r *audienceRecord) { r.TTL = 86401 },
		"unknown profile":    func(r *audienceRecord) { r.Profile = "RFC9068" },
		"simplejwt by EdDSA": func(r *audienceRecord) { r.Profile = profile.SimpleJWT },
		"the type at+jwt":    func(r *audienceRecord) { r.Typ = "at+jwt" }, // it is written as nothing
		"unknown type":       func(r *audienceRecord) { r.Typ = "jwt" },
		"spring of at+jwt":   func(r *audienceRecord) { r.Alg, r.Profile = "RS256", profile.Spring },
		"spring by EdDSA":    func(r *audienceRecord) { r.Typ, r.Profile = "JWT", profile.Spring },
		"a type until part":  func(r *audienceRecord) { r.Former = inParts },
		"a type until 9999":  func(r *audienceRecord) { r.Former = farAway },
		"longer until part":  func(r *audienceRecord) { r.Longer = inParts },
		"longer not in UTC":  func(r *audienceRecord) { r.Longer = abroad },
		"claims unsorted":    func(r *audienceRecord) { r.Claims = []byte(`{"b":1,"a":1}`) },
		"claims nested":      func(r *audienceRecord) { r.Claims = []byte(`{"a":{}}`) },
		"no claims in {}":    func(r *audienceRecord) { r.Claims = []byte(`{}`) },
		"a mapping of space": func(r *audienceRecord) { r.Map = claim.Mapping{"a b": "c"} },
		"a mapping of none":  func(r *audienceRecord) { r.Map = claim.Mapping{"a": ""} },
		"negative count":     func(r *audienceRecord) { r.Clients = -1 },
		"scopes are null":    func(r *audienceRecord) { r.Scopes = nil },
		"a scope twice":      func(r *audienceRecord) { r.Scopes = []string{"a", "a"} },
		"unsorted scopes":    func(r *audienceRecord) { r.Scopes = []string{"b", "a"} },
		"an empty scope":     func(r *audienceRecord) { r.Scopes = []string{""} },
		"a scope with space": func(r *audienceRecord) { r.Scopes = []string{"a b"} },
	}),
	"client/billing": changed(map[string]func(*clientRecord){
		"an unknown grant":     func(r *clientRecord) { r.Grants = []string{"client_credentialt"} },
		"an empty grant":       func(r *clientRecord) { r.Grants = []string{""} },
		"a grant twice":        func(r *clientRecord) { r.Grants = []string{"client_credentials", "client_credentials"} },
		"unsorted grants":      func(r *clientRecord) { r.Grants = []string{"refresh_token", "client_credentials"} },
		"grants are null":      func(r *clientRecord) { r.Grants = nil },
		"audiences are null":   func(r *clientRecord) { r.Audiences = nil },
		"an empty audience":    func(r *clientRecord) { r.Audiences = []string{""} },
		"an audience twice":    func(r *clientRecord) { r.Audiences = []string{"a", "a"} },
		"claims nested":        func(r *clientRecord) { r.Claims = []byte(`{"a":[{}]}`) },
		"claims are null":      func(r *clientRecord) { r.Claims = []byte(`null`) },
		"too many audiences":   func(r *clientRecord) { r.Audiences = numbered(client.MaxAudiences + 1) },
		"too many named":       func(r *clientRecord) { r.Audiences, r.Introspect = numbered(client.MaxAudiences), []string{"x"} },
		"an empty introspect":  func(r *clientRecord) { r.Introspect = []string{""} },
		"unsorted introspect":  func(r *clientRecord) { r.Introspect = []string{"b", "a"} },
		"an impossible scope":  func(r *clientRecord) { r.Scopes = []string{"a\"b"} },
		"a scope twice":        func(r *clientRecord) { r.Scopes = []string{"a", "a"} },
		"too many scopes":      func(r *clientRecord) { r.Scopes = numbered(51) },
		"an impossible origin": func(r *clientRecord) { r.Origins = []string{"*"} },
		"an origin with path":  func(r *clientRecord) { r.Origins = []string{"https://a.example.com/"} },
		"no creation":          func(r *clientRecord) { r.Created = time.Time{} },
		"a creation abroad":    func(r *clientRecord) { r.Created = abroad },
		"a creation in parts":  func(r *clientRecord) { r.Created = inParts },
		"a far creation":       func(r *clientRecord) { r.Created = farAway },
		"no epoch":             func(r *clientRecord) { r.Epoch = 0 },
		"an early epoch":       func(r *clientRecord) { r.Epoch = 1 },
		"a far epoch":          func(r *clientRecord) { r.Epoch = 1 << 63 },
		"negative grace":       func(r *clientRecord) { r.Grace = new(int64(-1)) },
		"long grace":           func(r *clientRecord) { r.Grace = new(int64(601)) },
		"negative idle":        func(r *clientRecord) { r.Idle = -1 },
		"long idle":            func(r *clientRecord) { r.Idle = 1 << 40 },
		"idle over absolute":   func(r *clientRecord) { r.Idle, r.Absolute = 2, 1 },
		"long absolute":        func(r *clientRecord) { r.Absolute = 1 << 40 },
		"public with secrets":  func(r *clientRecord) { r.Public = true },
		"no secret":            func(r *clientRecord) { r.Secrets = nil },
		"a public service":     func(r *clientRecord) { r.Public, r.Secrets = true, nil },
		"three secrets":        func(r *clientRecord) { r.Secrets = append(r.Secrets, r.Secrets[1]) },
		"a short hash":         func(r *clientRecord) { r.Secrets[0].Hash = r.Secrets[0].Hash[:31] },
		"the newest expires":   func(r *clientRecord) { r.Secrets[0].Until = present },
		"the old one does not": func(r *clientRecord) { r.Secrets[1].Until = time.Time{} },
		"its end is far":       func(r *clientRecord) { r.Secrets[1].Until = farAway },
		"the order is another": func(r *clientRecord) { slices.Reverse(r.Secrets) },
	}),
	"client/web": changed(map[string]func(*clientRecord){
		"public introspects":   func(r *clientRecord) { r.Introspect = []string{"orders"} },
		"public and a service": func(r *clientRecord) { r.Grants = []string{"client_credentials"} },
		"a secret":             func(r *clientRecord) { r.Secrets = []secret.Record{secret.RecordOf("x")} },
	}),
	"user/7": changed(map[string]func(*userRecord){
		"no name":               func(r *userRecord) { r.Name = "" },
		"another normal form":   func(r *userRecord) { r.Name = "ａlice" },
		"a space at the end":    func(r *userRecord) { r.Name = "alice " },
		"an id as name":         func(r *userRecord) { r.Name = "id:7" },
		"a long name":           func(r *userRecord) { r.Name = strings.Repeat("a", 151) },
		"an unknown hash":       func(r *userRecord) { r.Password = "sha1$x" },
		"an unusable hash":      func(r *userRecord) { r.Password = "!" },
		"a hash never set":      func(r *userRecord) { r.PasswordChanged = time.Time{} },
		"no hash that was set":  func(r *userRecord) { r.Password = "" },
		"no epoch":              func(r *userRecord) { r.Epoch = 0 },
		"an early epoch":        func(r *userRecord) { r.Epoch = 1 },
		"no creation":           func(r *userRecord) { r.Created = time.Time{} },
		"a creation abroad":     func(r *userRecord) { r.Created = abroad },
		"a change in parts":     func(r *userRecord) { r.PasswordChanged = inParts },
		"a far login":           func(r *userRecord) { r.LastLogin = farAway },
		"claims are null":       func(r *userRecord) { r.Claims = json.RawMessage("null") },
		"no claims":             func(r *userRecord) { r.Claims = json.RawMessage("{}") },
		"claims are a list":     func(r *userRecord) { r.Claims = json.RawMessage("[]") },
		"a claim twice":         func(r *userRecord) { r.Claims = json.RawMessage(`{"a":1,"a":2}`) },
		"unsorted claims":       func(r *userRecord) { r.Claims = json.RawMessage(`{"b":1,"a":2}`) },
		"an unnamed claim":      func(r *userRecord) { r.Claims = json.RawMessage(`{"":1}`) },
		"too many claims":       func(r *userRecord) { r.Claims = manyClaims(21) },
		"large claims":          func(r *userRecord) { r.Claims = json.RawMessage(`{"a":"` + strings.Repeat("x", 2048) + `"}`) },
		"deep claims":           func(r *userRecord) { r.Claims = json.RawMessage(`{"a":[[[[[[[[[1]]]]]]]]]}`) },
		"a short address":       func(r *userRecord) { r.Addresses[0] = r.Addresses[0][:15] },
		"an address twice":      func(r *userRecord) { r.Addresses = append(r.Addresses, r.Addresses[0]) },
		"too many addresses":    func(r *userRecord) { r.Addresses = manyAddresses(9) },
		"an address of nothing": func(r *userRecord) { r.Addresses = append(r.Addresses, nil) },
	}),
	"gone/8": changed(map[string]func(*gone.Record){
		"no epoch":        func(r *gone.Record) { r.Epoch = 0 },
		"a far epoch":     func(r *gone.Record) { r.Epoch = 1 << 63 },
		"no end":          func(r *gone.Record) { r.Until = time.Time{} },
		"an end abroad":   func(r *gone.Record) { r.Until = abroad },
		"an end in parts": func(r *gone.Record) { r.Until = inParts },
		"a far end":       func(r *gone.Record) { r.Until = farAway },
	}),
	"origin/https://app.example.com": changed(map[string]func(*int){
		"zero": func(n *int) { *n = 0 }, "negative": func(n *int) { *n = -1 },
	}),
	"scheme/argon2id-19456-2-1": changed(map[string]func(*int){
		"zero": func(n *int) { *n = 0 }, "negative": func(n *int) { *n = -1 },
	}),
	"family": changedFamily(map[string]func(*familyRecord){
		"no login endpoint":         func(r *familyRecord) { r.endpoint = 0 },
		"an unknown login endpoint": func(r *familyRecord) { r.endpoint = LoginBrowser + 1 },
		"an unknown ending":         func(r *familyRecord) { r.end, r.endedAt = endedByLimit+1, present },
		"an ending without a time":  func(r *familyRecord) { r.end, r.endedAt = endedByAdmin, time.Time{} },
		"no secret":                 func(r *familyRecord) { r.secret = 0 },
		"no user epoch":             func(r *familyRecord) { r.epochs.user = 0 },
		"no client epoch":           func(r *familyRecord) { r.epochs.client = 0 },
		"an early store epoch":      func(r *familyRecord) { r.epochs.store = 1 },
		"a far user epoch":          func(r *familyRecord) { r.epochs.user = 1 << 63 },
		"a far use":                 func(r *familyRecord) { r.lastUsed = farAway },
		"unused and refreshed":      func(r *familyRecord) { r.generation, r.lastUsed = 0, r.created.Add(time.Second) },
		"unused and retried":        func(r *familyRecord) { r.generation, r.lastUsed, r.retries = 0, r.created, 1 },
		"more shared than used":     func(r *familyRecord) { r.shared = uint8(r.generation) + 1 },
		"no check":                  func(r *familyRecord) { r.due = time.Unix(0, 0) },
		"denied in 1970":            func(r *familyRecord) { r.deniedUntil = time.Unix(1, 0) },
		"scope 51":                  func(r *familyRecord) { r.scopes |= 1 << 50 },
		"no user":                   func(r *familyRecord) { r.user = "" },
		"a user with a space":       func(r *familyRecord) { r.user = "7 " },
		"a user with a control":     func(r *familyRecord) { r.user = "\x00" },
	}),
}

func numbered(n int) (list []string) {
	for k := range n {
		list = append(list, fmt.Sprintf("%03d", k))
	}
	return list
}

func manyClaims(n int) json.RawMessage {
	claims := map[string]int{}
	for _, name := range numbered(n) {
		claims[name] = 1
	}
	b, _ := json.Marshal(claims)
	return b
}

func manyAddresses(n int) (list [][]byte) {
	for k := range n {
		b := netip.AddrFrom16([16]byte{15: byte(k)}).As16()
		list = append(list, b[:])
	}
	return list
}

// TestValuesThatNoCodeWritesAreDamage: in each field of each kind, also if the form is right.
//
// I23.
func TestValuesThatNoCodeWritesAreDamage(t *testing.T) {
	all := everyRecord(newWorld(t))
	for key, change := range impossibles {
		if key == "family" {
			for other := range all {
				if rec, err := decodeFamily(other, all[other]); err == nil && rec.generation > 0 {
					key = other
				}
			}
		}
		raw := all[key]
		if err := CheckRecord(key, raw); raw == nil || err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		for name, value := range change(t, key, raw) {
			if err := CheckRecord(key, value); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%s, %s: it is accepted, %v", key, name, err)
			}
		}
	}
}

// TestAFamilyOfOtherScopesIsDamaged: its terms, which only the store has, must have them.
func TestAFamilyOfOtherScopesIsDamaged(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	id, _ := record.ParseID(p.grant.Session)
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		rec, err := w.readFamily(tx, id)
		if err != nil {
			return err
		}
		rec.scopes |= 1 << 40
		return tx.Put(familyKey(id), rec.encode())
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.refresh(p.grant.Refresh); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// TestARecordUnderAnotherNameIsDamage: an id that no code writes, and one that contradicts the value.
//
// I23.
func TestARecordUnderAnotherNameIsDamage(t *testing.T) {
	all := everyRecord(newWorld(t))
	id := record.NewID(present).String()
	names := map[string][]string{
		"audience": {"", "a b", "é", strings.Repeat("a", names.MaxAudienceBytes+1)},
		"client":   {"", " web", "web ", "é", strings.Repeat("a", names.MaxClientBytes+1)},
		"user":     {"", " 7", "7\n", strings.Repeat("7", names.MaxUserBytes+1)},
		"id":       {"", " 7", "é"},
		"gone":     {"", "7 ", "é"},
		"origin":   {"", "null", "*", "https://a.example.com/", "HTTPS://a.example.com"},
		"scheme":   {"", "md5-1", "argon2id-0-0-0", "argon2id-019456-2-1"},
		"login":    {"", "alice", id, strings.Repeat("v", 52)},
		"family":   {"", "x", id, strings.ToUpper(id), strings.Repeat("0", 26)},
		"terms":    {"", "x", id},
		"sessions": {"", "7/web", "02/7/web", "01/7/", "00//web", "1/7/web"},
		"tally":    {"", "7/web", "02/7/web", "01/7/", "01/ /web", "1/7/web"},
		"denied":   {"", "\n", strings.Repeat("A", 250)},
		"due": {
			"", "x", "00000001/f/" + id, "6955b900/f/x", "6955B900/f/" + id, "6955b900/x/" + id, "6955b900//" + id, "6955b900/j/",
			"6955b900/g/", "6955b900/t/x", "6955b900/t/01/7/", "-955b900/g/7", "106955b900/g/7",
		},
		"refresh": {"", "secret", "secret/", "secret/1", "secret/000", "secret/256", "secret/+01", "001"},
		"epoch":   {"x", ""},
		"unknown": {"x"},
	}
	all["unknown/x"] = []byte("1")
	for kind, others := range names {
		key := ""
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if k == kind || strings.HasPrefix(k, kind+"/") {
				key = k
			}
		}
		if err := CheckRecord(key, all[key]); kind != "unknown" && (key == "" || err != nil) {
			t.Fatalf("no %s: %v", kind, err)
		}
		for _, name := range others {
			if err := CheckRecord(kind+"/"+name, all[key]); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%s/%s is accepted: %v", kind, name, err)
			}
		}
	}
}

// TestAnImpossibleListOfSessionsIsDamage, and so are an epoch and values that say only that a record
// is there.
func TestAnImpossibleListOfSessionsIsDamage(t *testing.T) {
	list := func(ended, n int) []byte {
		raw := []byte{byte(ended)}
		for range n {
			id := record.NewID(present)
			raw = append(raw, id[:]...)
		}
		return raw
	}
	one, early := list(0, 1), list(0, 1)
	early[1] = 0
	early[2] = 0
	const key = "sessions/01/7/web"
	for _, good := range [][]byte{list(0, 1), list(1, 1), list(0, sessionlist.Max), list(sessionlist.MaxEnded+sessionlist.Max, sessionlist.MaxEnded+2*sessionlist.Max)} {
		if err := CheckRecord(key, good); err != nil {
			t.Error(err)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing": {}, "no id": {0}, "half an id": one[:9], "an id and a half": append(slices.Clone(one), one[:8]...),
		"more have ended than there are": list(2, 1), "one twice": append(slices.Clone(one), one[1:]...), "a time in 1970": early,
		"too many": list(0, sessionlist.Max+1), "too many that have ended": list(sessionlist.MaxEnded+sessionlist.Max+1, sessionlist.MaxEnded+sessionlist.Max+1),
	} {
		if err := CheckRecord(key, bad); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for key, bads := range map[string][]string{
		"epoch":                          {"", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x01", "\xff\xff\xff\xff\xff\xff\xff\xff", "1"},
		"denied/" + claim.NewTokenID():   {"", "0", "11", "\x01"},
		due.Key(present, due.Gone, "7"):  {"", "0", "11"},
		"id/7":                           {"", "User", "user ", "group"},
		loginname.Key("alice"):           {"", " ", "7 ", "é", strings.Repeat("7", 65)},
		"terms/" + record.ID{}.String():  {`{"client":"","audiences":[],"scopes":[]}`},
		"origin/https://app.example.com": {"", "01", "1.0", "1e1", `"1"`, "null"},
		"scheme/argon2id-19456-2-1":      {"", "01", "1.0", "1e1", `"1"`, "null"},
	} {
		for _, bad := range bads {
			if err := CheckRecord(key, []byte(bad)); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%s accepts %q: %v", key, bad, err)
			}
		}
	}
}

// TestTermsThatNoCodeWritesAreDamage, although their hash is right.
func TestTermsThatNoCodeWritesAreDamage(t *testing.T) {
	for _, terms := range []loginterms.Terms{
		{Client: "", Audiences: []string{"a"}, Scopes: []string{}},
		{Client: " web", Audiences: []string{"a"}, Scopes: []string{}},
		{Client: "web", Audiences: []string{}, Scopes: []string{}},
		{Client: "web", Audiences: nil, Scopes: []string{}},
		{Client: "web", Audiences: []string{"a"}, Scopes: nil},
		{Client: "web", Audiences: []string{"b", "a"}, Scopes: []string{}},
		{Client: "web", Audiences: []string{"a"}, Scopes: []string{"r", "r"}},
		{Client: "web", Audiences: []string{"a"}, Scopes: numbered(51)},
		{Client: "web", Audiences: numbered(17), Scopes: []string{}},
	} {
		raw, _ := json.Marshal(terms)
		if err := CheckRecord(loginterms.Key(loginterms.IDOf(raw)), raw); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: %v", raw, err)
		}
	}
	if !slices.Equal(client.Grants(), sortedKeys(grants)) {
		t.Errorf("a client can have the grants %q, and its record %q", sortedKeys(grants), client.Grants())
	}
}
