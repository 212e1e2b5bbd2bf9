package apply_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/apply"
	"keymill/issuer/api"
	"keymill/issuer/verifiers"
)

// TestWhatTheServerRefusesIsNoPlan: the error names the line, and nothing is changed.
func TestWhatTheServerRefusesIsNoPlan(t *testing.T) {
	w := newWorld(t)
	w.alice()
	w.apply(sample, false)
	before, records := w.names(), w.records()
	for entry, want := range map[string]string{
		"audiences: [{name: x, ttl: 400d}]":                                                                         "audience x: ttl '9600h0m0s' is not 1s to 24h",
		"audiences: [{name: x, alg: RS256}]":                                                                        "audience x: algorithm 'RS256' is not in keys.algorithms; choose from EdDSA",
		"audiences: [{name: x, profile: y}]":                                                                        "audience x: profile 'y' is none of",
		"audiences: [{name: x, scopes: ['a b']}]":                                                                   "audience x: scope 'a b' must be",
		"clients: [{id: x, public: true, grants: [all]}]":                                                           "client x: grant all is not supported",
		"clients: [{id: x, public: true, grants: [all], audiences: [first]}]":                                       "client x: grant all is not supported",
		"clients: [{id: x, public: true, grants: [client_credentials]}]":                                            "client x: a public client is not allowed",
		"clients: [{id: x, public: true, introspect: [orders]}]":                                                    "client x: a public client cannot introspect",
		"clients: [{id: x, public: true, grace: 2h}]":                                                               "client x: grace '2h0m0s' is not 0s to 10m",
		"clients: [{id: x, public: true, idle: 40d, absolute: 3d}]":                                                 "client x: idle is 960h0m0s and must be at most absolute",
		"clients: [{id: x, public: true, origins: ['http://evil.example/path']}]":                                   "client x: origin 'http://evil.example/path' must be",
		"clients: [{id: ' x', public: true}]":                                                                       "client  x: client id ' x' must be",
		"clients: [{id: billing, grants: [client_credentials], audiences: [keymill-admin], scopes: ['keys:read']}]": "client billing: client billing cannot get the audience keymill-admin with the secret that it has",
		"verifiers: [{name: 'A B'}]":                                                                                "verifier A B: the name of a verifier is",
		"users: [{user: alice, claims: {sub: x}}]":                                                                  "user alice: claim 'sub' is reserved",
		"users: [{user: alice, claims: {iss: x, a: b}}]":                                                            "user alice: claim 'iss' is reserved",
	} {
		_, err := w.plan("audiences: [{name: first, ttl: 1h}]\n---\n"+entry, false)
		if err == nil || !strings.Contains(err.Error(), "entries.yaml:3: "+want) {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if after := w.records(); after != records || !slices.Equal(w.names(), before) {
		t.Errorf("%d audit records were written; the store had %q and has %q", after-records, before, w.names())
	}
}

// TestAnAudienceThatAClientNamesIsNotPruned, unless the plan takes it from the client or removes the client.
func TestAnAudienceThatAClientNamesIsNotPruned(t *testing.T) {
	w := newWorld(t)
	const client = "clients: [{id: c, public: true, grants: [refresh_token], audiences: [%s]}]"
	w.apply("audiences: [{name: kept}, {name: old}]\n---\n"+fmt.Sprintf(client, "old"), false)
	_, err := w.plan("audiences: [{name: kept}]\n---\n"+fmt.Sprintf(client, "kept, old"), true)
	if err == nil || !strings.Contains(err.Error(), "entries.yaml:3: client c names audience old, which was applied earlier, is no longer in the files and would be removed") {
		t.Error(err)
	}
	_, err = w.issuer.AddClient(t.Context(), api.NewClient{ID: "byhand", Public: true, Audiences: []string{"old"}}, "uid:0")
	w.check(err)
	_, err = w.plan("audiences: [{name: kept}]\n---\n"+fmt.Sprintf(client, "kept"), true)
	if err == nil || !strings.HasSuffix(err.Error(), "audience old was applied earlier and is no longer in the files, but client byhand names it, which is not in the files") {
		t.Error(err)
	}
	w.check(w.issuer.RemoveClient(t.Context(), "byhand", "uid:0"))
	got := w.apply("audiences: [{name: kept}]\n---\n"+fmt.Sprintf(client, "kept"), true)
	if want := "~ client c: audiences old → kept\n    ! client c can do nothing yet: users log in only through the clients that session.client and simplejwt.client name\n- audience old (applied earlier, no longer in the files)\n= 1 unchanged\napplied\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestPrunedVerifiersMakeRoom for as many others, and a plan with more than a server has is refused.
func TestPrunedVerifiersMakeRoom(t *testing.T) {
	w := newWorld(t)
	names := func(prefix string, n int) string {
		var b strings.Builder
		b.WriteString("verifiers:\n")
		for i := range n {
			fmt.Fprintf(&b, "- name: %s%d\n", prefix, i)
		}
		return b.String()
	}
	if _, err := w.plan(names("v", verifiers.MaxPinned+1), false); err == nil || err.Error() != "0 verifiers are pinned, and with those of the files it would be 201; at most 200 can be" {
		t.Error(err)
	}
	w.apply(names("v", verifiers.MaxPinned), false)
	if _, err := w.plan(names("w", 1), false); err == nil || !strings.HasPrefix(err.Error(), "200 verifiers are pinned") {
		t.Error(err)
	}
	if got := w.apply(names("w", verifiers.MaxPinned), true); !strings.HasSuffix(got, "applied\n") {
		t.Error(got)
	}
	if got := w.names(); len(got) != 2*verifiers.MaxPinned || !slices.Contains(got, "verifier/name/w199") {
		t.Errorf("the store has %d records: %q", len(got), got)
	}
}

// TestAnEarlierServerIsNamed: it refuses the parameter, and nothing is changed.
func TestAnEarlierServerIsNamed(t *testing.T) {
	w := newWorld(t)
	served := w.server
	w.server = func(ctx context.Context, r apply.Request) (apply.Answer, error) {
		r.Path = strings.Replace(r.Path, "dry_run", "dry_run_", 1)
		answer, err := served(ctx, r)
		answer.Body = bytes.ReplaceAll(answer.Body, []byte("dry_run_"), []byte("dry_run"))
		return answer, err
	}
	if _, err := w.plan("verifiers: [{name: a}]", false); err == nil || !strings.HasPrefix(err.Error(), "the server has an earlier version") {
		t.Error(err)
	}
}
