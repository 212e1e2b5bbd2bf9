package issuer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
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

// TestTheStoreHoldsNoSecretInTheOpen: who reads the file finds neither a credential nor what makes one, in
// any usual encoding.
func TestTheStoreHoldsNoSecretInTheOpen(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	grant := must[Grant](t)(w.login("alice", testPassword))
	next := must[Grant](t)(w.Token(t.Context(), TokenRequest{GrantType: "refresh_token", Client: noSecret, Refresh: grant.Refresh}))
	service := w.service("billing", "orders")
	secrets := map[string][]byte{
		"the password": []byte(testPassword), "a client secret": []byte(service)[len("kms_"):],
		"an access token": []byte(grant.AccessToken), "a refresh token": []byte(grant.Refresh)[len(refreshtoken.Prefix):],
	}
	for what, token := range map[string]refusal.Secret{"the first refresh token": grant.Refresh, "the second refresh token": next.Refresh} {
		sum := sha256.Sum256([]byte(token))
		raw := must[[]byte](t)(base64.RawURLEncoding.DecodeString(string(token)[len(refreshtoken.Prefix):]))
		secrets["a hash of "+what], secrets["the MAC of "+what] = sum[:], raw[22:]
	}
	for n, raw := range w.rawSecrets() {
		secrets[fmt.Sprint("the key of refresh tokens ", n)] = raw
	}
	file := must[[]byte](t)(os.ReadFile(w.path))
	inFile := func(b []byte) bool {
		for _, form := range []string{
			string(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b),
			record.Encoding.EncodeToString(b),
		} {
			if bytes.Contains(file, []byte(strings.TrimRight(form, "="))) {
				return true
			}
		}
		return false
	}
	for what, b := range secrets {
		if len(b) < 23 || inFile(b) {
			t.Errorf("the store holds %s: %d bytes", what, len(b))
		}
	}
	if !inFile(secret.RecordOf(service).Hash) {
		t.Error("the hash of a client secret is not found either: the test shows nothing")
	}
}
