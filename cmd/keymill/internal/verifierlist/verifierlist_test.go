package verifierlist

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
)

var came = time.Date(2026, 11, 26, 8, 0, 12, 500, time.UTC)

func printed(t *testing.T, print func(*bytes.Buffer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestALineOfARingNamesWhoWasNotServedItsSpare: up to three, and how many others there are.
func TestALineOfARingNamesWhoWasNotServedItsSpare(t *testing.T) {
	behind := func(names ...string) (list []api.BehindItem) {
		for _, name := range names {
			list = append(list, api.BehindItem{Name: name, Last: &came})
		}
		return list
	}
	for want, reach := range map[string]*api.Reach{
		"": nil,
		"ring EdDSA: spare served to 6 of 6 pinned verifiers\n": {Pinned: 6, Served: 6},
		"ring EdDSA: spare served to 1 of 1 pinned verifier\n":  {Pinned: 1, Served: 1},
		"ring EdDSA: spare served to 5 of 6 pinned verifiers; django-1 last came 2026-11-26T08:00:12Z, was served a set without it\n": {
			Pinned: 6, Served: 5, Behind: behind("django-1")},
		"ring EdDSA: spare served to 0 of 1 pinned verifier; new never came\n": {Pinned: 1, Behind: []api.BehindItem{{Name: "new"}}},
		"ring EdDSA: spare served to 0 of 5 pinned verifiers; a last came 2026-11-26T08:00:12Z, was served a set without it; " +
			"b last came 2026-11-26T08:00:12Z, was served a set without it; c last came 2026-11-26T08:00:12Z, was served a set without it; and 2 others\n": {
			Pinned: 5, Behind: behind("a", "b", "c", "d", "e")},
	} {
		keys := []api.Key{{KID: "k", Alg: "EdDSA", Stage: "active", Reach: &api.Reach{Pinned: 9}}, {KID: "s", Alg: "EdDSA", Stage: "spare", Reach: reach}}
		if got := printed(t, func(b *bytes.Buffer) error { return PrintReach(b, keys) }); got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	}
}

// TestATableSaysWhichKeysAVerifierMisses, and until when a rotation waits for it.
func TestATableSaysWhichKeysAVerifierMisses(t *testing.T) {
	stages := StagesOf([]api.Key{{KID: "8XkPz0aaVBsdLG1Uz9ibHSMs1irRH5U6QqCLiHOK4VR", Stage: "spare"}, {KID: "old-1", Stage: "retiring"}})
	until := came.Add(time.Hour)
	got := printed(t, func(b *bytes.Buffer) error {
		return stages.Print(b,
			api.Verifier{Name: "a", Last: &came, Usual: "5m0s"},
			api.Verifier{Name: "b", Last: &came, Missing: []string{"8XkPz0aaVBsdLG1Uz9ibHSMs1irRH5U6QqCLiHOK4VR", "old-1"}, Waited: true, WaitedUntil: &until},
			api.Verifier{Name: "c", Missing: []string{"old-1"}},
		)
	})
	want := "NAME  LAST                  USUAL  SERVED                                  WAITED UNTIL\n" +
		"a     2026-11-26T08:00:12Z  5m0s   current                                 -\n" +
		"b     2026-11-26T08:00:12Z  -      misses spare 8XkPz0aa…, retiring old-1  2026-11-26T09:00:12Z\n" +
		"c     -                     -      never came                              -\n"
	if got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

// TestAVerifierIsShownWithItsKeys, also those that are no longer published.
func TestAVerifierIsShownWithItsKeys(t *testing.T) {
	got := printed(t, func(b *bytes.Buffer) error {
		return Stages{"k": "active", "s": "spare"}.PrintOne(b, api.Verifier{
			Name: "a", Credential: "a.b", URL: "https://id.example.com/x", Last: &came, Served: []string{"k", "dead"}, Missing: []string{"s"}})
	})
	for _, line := range []string{"header:         Keymill-Verifier: a.b", "served:         misses spare s", "                k active", "                dead no longer published", "misses:         s spare"} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

// TestAHostileCallerCannotDrawOnTheTerminal, with any field that it can fill.
func TestAHostileCallerCannotDrawOnTheTerminal(t *testing.T) {
	for _, hostile := range []string{"\x1b]0;owned\a\x1b[2J", "<script>alert(1)</script>\x9b", "\u202egnp.exe\u2066", "a\tb\r\nc", "\xff\xfe"} {
		got := printed(t, func(b *bytes.Buffer) error {
			return Stages{hostile: hostile}.PrintObserved(b, api.ObservedVerifier{Address: hostile, Through: hostile, Agent: hostile, Missing: []string{hostile}})
		})
		got += printed(t, func(b *bytes.Buffer) error {
			return Stages{}.PrintOne(b, api.Verifier{Name: hostile, URL: hostile, Credential: hostile, Usual: hostile, Last: &came, Served: []string{hostile}, Missing: []string{hostile}})
		})
		got += printed(t, func(b *bytes.Buffer) error {
			return PrintReach(b, []api.Key{{Alg: hostile, Stage: "spare", Reach: &api.Reach{Behind: []api.BehindItem{{Name: hostile}}}}})
		})
		if strings.ContainsAny(got, "\x1b\a\r\t\u202e\u2066\u009b") || strings.Contains(got, "\xff") {
			t.Errorf("%q printed %q", hostile, got)
		}
		if n := strings.Count(got, "\n"); n != 2+10+1 {
			t.Errorf("%q printed %d lines:\n%s", hostile, n, got)
		}
	}
}
