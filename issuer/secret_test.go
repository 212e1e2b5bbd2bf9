package issuer

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"keymill/issuer/refusal"
	"keymill/issuer/secret"
)

func TestASecretCannotPrint(t *testing.T) {
	s := secret.New()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "group", Credentials{Secret: s})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s)
	shown := log.String() + s.LogValue().String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		shown += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, Credentials{Secret: s}) + fmt.Sprintf(verb, &TokenRequest{Client: Credentials{Secret: s}})
	}
	for _, leak := range []string{string(s), fmt.Sprintf("%x", string(s)), string(s)[4:]} {
		if strings.Contains(strings.ToLower(shown), strings.ToLower(leak)) {
			t.Fatalf("the secret is shown:\n%s", shown)
		}
	}
}

func TestSecretsAreDistinctAndLong(t *testing.T) {
	seen := map[refusal.Secret]bool{}
	for range 1000 {
		s := secret.New()
		if seen[s] || len(s) != len("kms_")+43 || !strings.HasPrefix(string(s), "kms_") {
			t.Fatalf("secret %q", string(s))
		}
		seen[s] = true
	}
}

func TestTwoSecretsAreValidAndTheOldOneExpires(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	young, old := refusal.Secret("young"), refusal.Secret("old")
	ended := secret.RecordOf(old)
	ended.Until = now
	valid := secret.RecordOf(old)
	valid.Until = now.Add(time.Second)
	for _, tt := range []struct {
		name  string
		list  []secret.Record
		shown refusal.Secret
		want  bool
	}{
		{"newest", []secret.Record{secret.RecordOf(young), valid}, young, true},
		{"old one, still valid", []secret.Record{secret.RecordOf(young), valid}, old, true},
		{"old one, at its end", []secret.Record{secret.RecordOf(young), ended}, old, false},
		{"wrong", []secret.Record{secret.RecordOf(young), valid}, "wrong", false},
		{"none shown", []secret.Record{secret.RecordOf(young)}, "", false},
		{"the client has none", nil, "young", false},
		{"the client has none, none presented", nil, "", false},
	} {
		if got := secret.Match(tt.list, tt.shown, now); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}
