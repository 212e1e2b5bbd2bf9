package apply_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/apply"
	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/applied"
)

const secretOfBilling = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// sample has every kind of entry.
const sample = `
audiences:
  - {name: orders, ttl: 10m, scopes: [write, read]}
  - {name: "https://shop.example/api"}
clients:
  - {id: billing, grants: [client_credentials], audiences: [orders], scopes: [read], secret_sha256: ` + secretOfBilling + `}
  - {id: web, public: true, grants: [refresh_token], audiences: [orders, "https://shop.example/api"], origins: [https://app.example.com], idle: 7d, grace: 0s}
---
verifiers:
  - {name: orders-api}
users:
  - {user: alice, claims: {role: admin, level: 3, tags: [a, b], deep: {x: null}}}
`

// TestASecondRunChangesNothing: it sends no request that could, and writes no audit record.
func TestASecondRunChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.alice()
	const want = `+ audience orders (alg EdDSA, ttl 10m, profile rfc9068, scopes read write)
+ audience https://shop.example/api (alg EdDSA, ttl 15m, profile rfc9068)
+ client billing (confidential, grants client_credentials, audiences orders, scopes read)
+ client web (public, grants refresh_token, audiences https://shop.example/api orders, origins https://app.example.com, grace 0s, idle 7d)
+ verifier orders-api
~ user alice: claim deep added, claim level added, claim role added, claim tags added
= 0 unchanged
nothing was changed; --yes applies this plan
`
	if got := w.printed(w.mustPlan(sample, true)); got != want {
		t.Errorf("planned\n%swant\n%s", got, want)
	}
	if names := w.names(); len(names) > 0 {
		t.Errorf("a plan has written %q", names)
	}
	w.apply(sample, true)
	before, names := w.records(), w.names()
	if got := w.apply(sample, true); got != "= 6 unchanged\n" {
		t.Errorf("the second run: %s", got)
	}
	if after := w.records(); after != before || !slices.Equal(w.names(), names) || len(names) != 10 {
		t.Errorf("the second run wrote %d audit records; the store had %q and has %q", after-before, names, w.names())
	}
}

// TestAChangeIsShownAndMade, each with its line in the plan.
func TestAChangeIsShownAndMade(t *testing.T) {
	w := newWorld(t)
	w.alice()
	w.apply(sample, false)
	for _, tt := range []struct{ old, new, want string }{
		{"ttl: 10m", "ttl: 5m", "~ audience orders: ttl 10m → 5m"},
		{"ttl: 10m", "ttl: 10m, type: JWT", "~ audience orders: type at+jwt → JWT\n    ! the type JWT does not tell access tokens from ID tokens, so no ID token may ever have the audience orders: " +
			"this server makes none; its services must trust no other issuer for it"},
		{"scopes: [read], secret", "scopes: [read, write], secret", "~ client billing: scopes read → read write"},
		{"idle: 7d, grace: 0s", "absolute: 30d", "~ client web: grace 0s → default, idle 7d → default, absolute default → 30d"},
		{"idle: 7d", "idle: 1d", "~ client web: idle 7d → 24h\n    ! holds for sessions that exist as well: those that are past the new time end"},
		{"origins: [https://app.example.com], ", "", "~ client web: origins https://app.example.com → none"},
		{"level: 3, tags: [a, b]", "level: 4", "~ user alice: claim tags removed, claim level changed"},
		{secretOfBilling, strings.Repeat("ab", 32), "~ client billing: another secret\n    ! the old secret stops working at once"},
	} {
		got := w.apply(strings.Replace(sample, tt.old, tt.new, 1), false)
		if !strings.HasPrefix(got, tt.want+"\n") || !strings.HasSuffix(got, "\n= 5 unchanged\napplied\n") {
			t.Errorf("%s:\n%swant\n%s", tt.new, got, tt.want)
		}
		if again := w.apply(strings.Replace(sample, tt.old, tt.new, 1), false); again != "= 6 unchanged\n" {
			t.Errorf("%s again:\n%s", tt.new, again)
		}
		w.apply(sample, false)
	}
}

// TestClaimsOfAudiencesAndClientsAreApplied. The plan names them and has no value of one.
func TestClaimsOfAudiencesAndClientsAreApplied(t *testing.T) {
	w := newWorld(t)
	const file = "audiences: [{name: a, claims: {tenant: secret-x, tags: [a, 1, true]}, claim_map: {roles: groups, mail: email}}]\n---\n" +
		"clients: [{id: c, grants: [client_credentials], audiences: [a], claims: {policy: secret-y}, secret_sha256: " + secretOfBilling + "}]"
	got := w.apply(file, false)
	if !strings.Contains(got, "profile rfc9068, claim tags added, claim tenant added, claim_map mail=email roles=groups)") || !strings.Contains(got, "audiences a, claim policy added)") || strings.Contains(got, "secret-") {
		t.Errorf("new:\n%s", got)
	}
	var a api.Audience
	if w.get("audience?name=a", &a); string(a.Claims["tags"]) != `["a",1,true]` || a.ClaimMap["roles"] != "groups" {
		t.Errorf("the audience is %+v", a)
	}
	if got := w.apply(file, false); got != "= 2 unchanged\n" {
		t.Errorf("again:\n%s", got)
	}
	for old, want := range map[string]string{
		"secret-x": "~ audience a: claim tenant changed\n", "tenant: secret-x, ": "~ audience a: claim tenant removed\n",
		"roles: groups, ": "~ audience a: claim_map mail=email roles=groups → mail=email\n", ", claim_map: {roles: groups, mail: email}": "~ audience a: claim_map mail=email roles=groups → none\n",
		"claims: {policy: secret-y}": "~ client c: claim policy removed\n",
	} {
		change := map[string]string{"secret-x": "secret-z", "claims: {policy: secret-y}": "claims: {}"}[old]
		if got := w.apply(strings.Replace(file, old, change, 1), false); !strings.HasPrefix(got, want) {
			t.Errorf("without %s:\n%swant\n%s", old, got, want)
		}
		w.apply(file, false)
	}
	for bad, want := range map[string]string{
		"claims: {sub: x}": "claim 'sub' is reserved", "claims: {a: {b: c}}": "claim 'a' must be a text", "claim_map: {a: [b]}": "a must be one plain value", "claim_map: {a: x, b: x}": "both mapped from 'x'",
	} {
		if _, err := w.plan("audiences: [{name: b, "+bad+"}]", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", bad, err, want)
		}
	}
}

// TestATypeThatAFileDoesNotNameIsThatOfItsProfile, so that the server and the file never differ in it.
func TestATypeThatAFileDoesNotNameIsThatOfItsProfile(t *testing.T) {
	w := newWorld(t)
	const typed = "audiences: [{name: a, type: JWT}]"
	if got := w.apply(typed, false); !strings.HasPrefix(got, "+ audience a (alg EdDSA, ttl 15m, profile rfc9068, type JWT)\n    ! the type JWT does not") || strings.Count(got, "!") != 1 {
		t.Errorf("new:\n%s", got)
	}
	if got := w.apply(typed, false); got != "= 1 unchanged\n" {
		t.Errorf("again:\n%s", got)
	}
	if got := w.apply("audiences: [{name: a}]", false); !strings.HasPrefix(got, "~ audience a: type JWT → at+jwt\n    ! tokens of type JWT can be valid until ") {
		t.Errorf("without a type:\n%s", got)
	}
}

// TestWhatIsNotInTheFilesStays: a client that was disabled, and its secret.
func TestWhatIsNotInTheFilesStays(t *testing.T) {
	w := newWorld(t)
	w.alice()
	w.apply(sample, false)
	disabled := true
	_, err := w.issuer.SetClient(t.Context(), "billing", api.ClientChange{Disabled: &disabled}, "uid:0")
	w.check(err)
	var before, after api.Client
	w.get("client?id=billing", &before)
	silent := strings.Replace(sample, ", secret_sha256: "+secretOfBilling, "", 1)
	w.apply(strings.Replace(silent, "scopes: [read]", "scopes: [write]", 1), false)
	w.get("client?id=billing", &after)
	if !after.Disabled || after.SecretVersion != before.SecretVersion || !slices.Equal(after.Scopes, []string{"write"}) {
		t.Errorf("was %+v, is %+v", before, after)
	}
}

// TestAMarkOfATokenRemovesNoAdministrator: applied:write gives no power over clients of the admin API.
func TestAMarkOfATokenRemovesNoAdministrator(t *testing.T) {
	w := newWorld(t)
	w.alice()
	w.apply(sample, false)
	marks := &applied.Marks{Store: w.store, Now: time.Now}
	_, err := marks.Put(t.Context(), "audience", adminscope.Audience, "client:ci") // no request removes it
	w.check(err)
	for id, by := range map[string]string{"deployer": "client:ci", "retired": "uid:0"} {
		_, err := w.issuer.AddClient(t.Context(), api.NewClient{
			ID: id, Grants: []string{"client_credentials"}, Audiences: []string{adminscope.Audience}, Scopes: []string{"keys:read"},
		}, "uid:0")
		w.check(err)
		_, err = marks.Put(t.Context(), "client", id, by)
		w.check(err)
	}
	const want = "client deployer (has the audience keymill-admin, and client:ci marked it over the network: it stays, and only the mark is removed)"
	if got := w.apply(sample, true); !strings.Contains(got, want) || !strings.Contains(got, "- client retired") {
		t.Errorf("pruned\n%s", got)
	}
	var client api.Client
	if !w.get("client?id=deployer", &client) || w.get("client?id=retired", &client) {
		t.Errorf("the store has %v", w.names())
	}
	for _, mark := range []string{"mark client/deployer", "mark audience/keymill-admin"} {
		if slices.Contains(w.names(), mark) {
			t.Errorf("there still is the %s", mark)
		}
	}
}

// TestPruneRemovesOnlyWhatWasApplied. What was there before and is named in a file counts as applied from then on.
func TestPruneRemovesOnlyWhatWasApplied(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"mine", "adopted"} {
		_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: name, Alg: "EdDSA"}, "uid:0")
		w.check(err)
	}
	const base = "audiences: [{name: kept}, {name: adopted}]\n"
	got := w.apply(base+"clients: [{id: old, public: true, grants: [refresh_token], audiences: [adopted]}]\nverifiers: [{name: gone}]", true)
	if !strings.Contains(got, "~ audience adopted: adopted: it was there before\n") {
		t.Error(got)
	}
	const next = "audiences: [{name: kept}]"
	if got := w.printed(w.mustPlan(next, false)); got != "= 1 unchanged\n= 3 applied earlier and no longer in the files; --prune removes what is left of that\n" {
		t.Errorf("without prune: %s", got)
	}
	want := `- verifier gone (applied earlier, no longer in the files)
- client old (applied earlier, no longer in the files)
- audience adopted (applied earlier, no longer in the files)
= 1 unchanged
applied
`
	if got := w.apply(next, true); got != want {
		t.Errorf("pruned\n%swant\n%s", got, want)
	}
	if names := w.names(); !slices.Equal(names, []string{"audience/kept", "audience/mine", "mark audience/kept"}) {
		t.Errorf("left: %q", names)
	}
	w.check(w.issuer.RemoveAudience(t.Context(), "kept", "uid:0"))
	w.request("PUT", "applied?kind=audience&name=kept", nil) // as a crash before the entry was made leaves it
	if got := w.apply("audiences: [{name: other}]", true); !strings.Contains(got, "- audience kept (applied earlier, and there is none now)\n") {
		t.Error(got)
	}
	if names := w.names(); !slices.Equal(names, []string{"audience/mine", "audience/other", "mark audience/other"}) {
		t.Errorf("left: %q", names)
	}
}

// TestWhatIsAddedByOtherMeansIsNeverPruned: an entry whose name was applied, and then removed, or was in a file that
// could not be applied.
func TestWhatIsAddedByOtherMeansIsNeverPruned(t *testing.T) {
	w := newWorld(t)
	const kept = "audiences: [{name: kept}]\n"
	const entries = "audiences: [{name: a}]\nclients: [{id: c, public: true}]\nverifiers: [{name: v}]"
	byHand := func() {
		t.Helper()
		_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "a", Alg: "EdDSA"}, "uid:0")
		w.check(err)
		_, err = w.issuer.AddClient(t.Context(), api.NewClient{ID: "c", Public: true}, "uid:0")
		w.check(err)
		w.request("POST", "verifiers", api.NewVerifier{Name: "v"})
	}
	w.apply(entries, false)
	w.check(w.issuer.RemoveClient(t.Context(), "c", "uid:0"))
	w.check(w.issuer.RemoveAudience(t.Context(), "a", "uid:0"))
	w.request("DELETE", "verifier?name=v", nil)
	byHand()
	if got := w.apply(kept, true); !strings.HasPrefix(got, "+ audience kept (alg EdDSA, ttl 15m, profile rfc9068)\n= 0 unchanged\n") {
		t.Errorf("removed by hand, and added again: %s", got)
	}
	for _, name := range []string{"audience?name=a", "client?id=c", "verifier?name=v"} {
		w.request("DELETE", name, nil)
	}
	w.refuse = true
	for _, list := range strings.Split(entries, "\n") {
		if err := w.mustPlan(list, false).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the test refuses; nothing was changed before") {
			t.Errorf("%s: %v", list, err)
		}
	}
	w.refuse = false
	byHand()
	if got := w.apply(kept, true); got != "= 1 unchanged\n" {
		t.Errorf("after steps that failed: %s", got)
	}
}

// TestAnInterruptedPlanStopsBetweenTwoSteps, and says what was done.
func TestAnInterruptedPlanStopsBetweenTwoSteps(t *testing.T) {
	w := newWorld(t)
	p := w.mustPlan("audiences: [{name: a}, {name: b}, {name: c}]", false)
	ctx, stop := context.WithCancel(t.Context())
	w.asked = func(r apply.Request) {
		if strings.Contains(r.Path, "name=b") {
			stop()
		}
	}
	if err := p.Run(ctx); err == nil || err.Error() != "interrupted; done before: + audience a, + audience b" {
		t.Errorf("got %v", err)
	}
	if got := w.printed(p); !strings.HasSuffix(got, "stopped: 2 of 3 steps done\n") {
		t.Error(got)
	}
	if names := w.names(); !slices.Equal(names, []string{"audience/a", "audience/b", "mark audience/a", "mark audience/b"}) {
		t.Errorf("the store has %q", names)
	}
}

// TestTheIDOfAUserIsNoClient, and the error says so: another plan would be no help.
func TestTheIDOfAUserIsNoClient(t *testing.T) {
	w := newWorld(t)
	w.alice()
	const client = "clients: [{id: '8', public: true}]"
	if _, err := w.plan(strings.Replace(client, "8", "7", 1), false); err == nil || !strings.HasSuffix(err.Error(), "entries.yaml:1: client 7: user 7 already exists") {
		t.Error(err)
	}
	p := w.mustPlan(client, false)
	_, err := w.issuer.AddUser(t.Context(), api.NewUser{ID: "8", Name: "bob"}, "uid:0")
	w.check(err)
	if err := p.Run(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "entries.yaml:1: client 8: user 8 already exists; nothing was changed before") {
		t.Error(err)
	}
}

// TestAPlanAgainstAStoreThatChangedStops before it overwrites anything, with one clear answer.
func TestAPlanAgainstAStoreThatChangedStops(t *testing.T) {
	ttl, scopes, empty := "1h", []string{"write"}, api.Claims{}
	for name, tt := range map[string]struct {
		files  string
		change func(w *world) error
		want   string
	}{
		"audience changed": {strings.Replace(sample, "10m", "5m", 1), func(w *world) error {
			_, err := w.issuer.SetAudience(t.Context(), "orders", api.AudienceChange{TTL: &ttl}, "uid:0")
			return err
		}, "audience orders"},
		"client changed": {strings.Replace(sample, "scopes: [read]", "scopes: []", 1), func(w *world) error {
			_, err := w.issuer.SetClient(t.Context(), "billing", api.ClientChange{Scopes: &scopes}, "uid:0")
			return err
		}, "client billing"},
		"secret rotated": {strings.Replace(sample, "scopes: [read]", "scopes: []", 1), func(w *world) error {
			_, err := w.issuer.RotateSecret(t.Context(), "billing", 0, "uid:0")
			return err
		}, "client billing"},
		"client removed": {strings.Replace(sample, "scopes: [read]", "scopes: []", 1), func(w *world) error {
			return w.issuer.RemoveClient(t.Context(), "billing", "uid:0")
		}, "client billing"},
		"user changed": {strings.Replace(sample, "role: admin", "role: none", 1), func(w *world) error {
			_, err := w.issuer.SetUser(t.Context(), "alice", api.UserChange{Claims: &empty}, "uid:0")
			return err
		}, "user alice"},
		"audience added": {sample + "---\naudiences: [{name: new}]", func(w *world) error {
			_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "new", Alg: "EdDSA"}, "uid:0")
			return err
		}, "audience new"},
		"client to prune changed": {strings.Replace(sample, "  - {id: billing", "# ", 1), func(w *world) error {
			_, err := w.issuer.SetClient(t.Context(), "billing", api.ClientChange{Scopes: &scopes}, "uid:0")
			return err
		}, "client billing"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.alice()
			w.apply(sample, false)
			p := w.mustPlan(tt.files, true)
			w.check(tt.change(w))
			before := w.records()
			err := p.Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want+" changed since the plan was made; nothing was changed before") {
				t.Errorf("got %v", err)
			}
			if after := w.records(); after > before+1 { // the mark of what was added
				t.Errorf("%d audit records were written", after-before)
			}
			if p, err := w.plan(tt.files, true); err != nil || len(p.Steps) == 0 && name != "audience added" {
				t.Errorf("another plan: %v, %v", p, err)
			} else if err := p.Run(t.Context()); err != nil {
				t.Errorf("another run: %v", err)
			}
		})
	}
}

// TestAnErrorSaysWhatWasDone before it.
func TestAnErrorSaysWhatWasDone(t *testing.T) {
	w := newWorld(t)
	p := w.mustPlan("audiences: [{name: a}, {name: b}, {name: c}]", false)
	_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "c", Alg: "EdDSA"}, "uid:0")
	w.check(err)
	err = p.Run(t.Context())
	if err == nil || !strings.HasSuffix(err.Error(), "audience c changed since the plan was made; done before: + audience a, + audience b") {
		t.Errorf("got %v", err)
	}
	if got := w.printed(p); !strings.HasSuffix(got, "+ audience c (alg EdDSA, ttl 15m, profile rfc9068)\n= 0 unchanged\nstopped: 2 of 3 steps done\n") {
		t.Error(got)
	}
}

// TestACrashLosesTrackOfNothing ends a run after each of its requests. What was made has a mark, and the
// next run brings the store to what the files say.
func TestACrashLosesTrackOfNothing(t *testing.T) {
	w := newWorld(t)
	w.alice()
	const last = "audiences: [{name: last}]"
	for _, files := range []string{sample, last} {
		for n := 0; ; n++ {
			p := w.mustPlan(files, true)
			w.left = n
			err := p.Run(t.Context())
			w.left = -1
			names := w.names()
			for _, name := range names {
				mark := "mark " + strings.Replace(name, "verifier/name/", "verifier/", 1)
				if !strings.HasPrefix(name, "mark ") && !slices.Contains(names, mark) {
					t.Errorf("after %d requests %s has no mark: %q", n, name, names)
				}
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errCrash) || n > 40 {
				t.Fatalf("after %d requests: %v", n, err)
			}
		}
		if got := w.printed(w.mustPlan(files, true)); !strings.HasPrefix(got, "= ") {
			t.Errorf("at the end: %s", got)
		}
	}
	if names := w.names(); !slices.Equal(names, []string{"audience/last", "mark audience/last"}) {
		t.Errorf("at the end: %q", names)
	}
}

// TestWhatAClientRefersToIsCheckedBeforeAnythingChanges.
func TestWhatAClientRefersToIsCheckedBeforeAnythingChanges(t *testing.T) {
	w := newWorld(t)
	w.alice()
	w.apply(sample, false)
	for files, want := range map[string]string{
		"clients: [{id: a, public: true, audiences: [none]}]":                     `entries.yaml:1: client a names audience "none", which does not exist and is in no file`,
		"clients: [{id: a, public: true, audiences: [orders], scopes: [refund]}]": `client a has scope "refund", which none of its audiences has`,
		"clients: [{id: a}]":                                             "client a is new and needs secret_sha256 or secret_file, or public: true",
		"clients: [{id: billing, public: true}]":                         "client billing is confidential, which cannot change",
		"audiences: [{name: orders, alg: RS256}]":                        "audience orders signs with EdDSA, which cannot change to RS256",
		"audiences: [{name: keymill-admin}]":                             "audience keymill-admin is built in and cannot change",
		"users: [{user: bob, claims: {}}]":                               "user bob does not exist",
		"users: [{user: alice, claims: {}}, {user: 'id:7', claims: {}}]": "user id:7 and user alice in",
	} {
		if _, err := w.plan("audiences: [{name: first}]\n---\n"+files, false); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(want, ":1:", ":3:")) {
			t.Errorf("%s: %v", files, err)
		}
	}
	if slices.Contains(w.names(), "audience/first") {
		t.Error("a plan that failed has changed something")
	}
}

// TestHostileNamesAreRefusedAndNeverPrintedRaw puts each into every field.
func TestHostileNamesAreRefusedAndNeverPrintedRaw(t *testing.T) {
	w := newWorld(t)
	w.alice()
	w.apply(sample, false)
	before := w.names()
	for _, name := range []string{
		"\x1b[2Jx", "a\nb", "a\x00b", "\u202egnp.exe", "../../etc/passwd\n", strings.Repeat("x", 5000), "a&id=b&unused=true", "é", " a", "%2e%2e/", "\u2028", "\\", `"`, "keymill-admin",
	} {
		q, err := json.Marshal(name) // JSON is YAML
		w.check(err)
		for _, field := range []string{
			"audiences: [{name: %s}]", "audiences: [{name: a, alg: %s}]", "audiences: [{name: a, ttl: %s}]", "audiences: [{name: a, scopes: [%s]}]",
			"audiences: [{name: a, profile: %s}]", "audiences: [{name: a, %s: b}]", "%s: []",
			"clients: [{id: %s, public: true}]", "clients: [{id: a, public: %s}]", "clients: [{id: a, public: true, grants: [%s]}]",
			"clients: [{id: a, public: true, audiences: [%s]}]", "clients: [{id: a, public: true, scopes: [%s]}]",
			"clients: [{id: a, public: true, origins: [%s]}]", "clients: [{id: a, public: true, introspect: [%s]}]",
			"clients: [{id: a, public: true, grace: %s}]", "clients: [{id: a, public: true, idle: %s}]", "clients: [{id: a, public: true, absolute: %s}]",
			"clients: [{id: a, secret_sha256: %s}]", "clients: [{id: a, secret_file: %s}]",
			"verifiers: [{name: %s}]", "users: [{user: %s, claims: {}}]", "users: [{user: alice, claims: {exp: %s}}]", "users: [{user: alice, claims: {%s: {a: 1, a: 2}}}]",
		} {
			p, err := w.plan(fmt.Sprintf(field, q), false)
			if err == nil {
				if text := w.printed(p); strings.ContainsAny(text, "\x1b\x00\u202e\u2028") || strings.Count(text, "\n") > 4 {
					t.Errorf("%s: the plan is %q", field, text)
				}
				err = p.Run(t.Context())
			}
			if err == nil {
				for _, added := range w.names() {
					isNew := !slices.Contains(before, added) && !strings.HasPrefix(added, "mark ")
					if isNew && !strings.HasSuffix(added, "/a") && !strings.HasSuffix(added, "/"+name) {
						t.Errorf("%s with %.100q has made %q", field, name, added)
					}
				}
				w.apply(sample, true)
			} else if len(err.Error()) > 1000 {
				t.Errorf("%s: an error of %d bytes", field, len(err.Error()))
			}
		}
	}
	w.apply(sample, true)
	if names := w.names(); !slices.Equal(names, before) {
		t.Errorf("at the end the store has %q, and had %q", names, before)
	}
}
