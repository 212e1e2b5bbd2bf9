package verifiers

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// vault is Vault's auth method, without the server of Vault.
func vault() library {
	return library{name: "vault", algs: all, sight: seesAFlush, least: 24 * time.Hour,
		start: func(t *testing.T, s settings) (string, error) { return startVault(t, s) },
		gaps:  []gap{ignoresType, readsLoosely, takesJSON, keepsRevokedKey, forgivesSeconds, acceptsNoExp},
		// Without an audience in the role it refuses all tokens that have one.
		settled: []gap{anyIssuer, takesAnyAlgorithm}}
}

// startVault runs the method with the commands of its page, and changes of them: old, new, …
func startVault(t *testing.T, s settings, changes ...string) (string, error) {
	binary, err := toolOf("vault", "service")
	if err != nil {
		return "", err
	}
	commands, err := blockOf("vault.md", "text", "vault auth enable",
		"https://id.example.com", s.issuer, "bound_audiences=vault", "bound_audiences="+s.audience,
		"bound_subject=reports", "bound_subject=billing-"+strings.ToLower(s.alg), "jwt_supported_algs=EdDSA", "jwt_supported_algs="+s.alg)
	if err == nil && s.bare {
		commands, err = replaced(commands, "bound_issuer="+s.issuer, "", "jwt_supported_algs="+s.alg, "", "bound_subject=billing-"+strings.ToLower(s.alg), "")
	}
	if err == nil {
		commands, err = replaced(commands, changes...)
	}
	if err != nil {
		return "", err
	}
	cmd := exec.Command(binary)
	cmd.Env = append(server.Environment(), "SERVICE_COMMANDS="+commands, "SERVICE_ROLE=reports")
	cmd.Stderr = t.Output()
	return serving(t, cmd)
}

// TestWhatTheVaultPageSays about times, subjects and the Vault token.
func TestWhatTheVaultPageSays(t *testing.T) {
	t.Parallel()
	srv, clients := issuer(t, slow, "10m")
	m := newMints(t, srv, clients)["EdDSA"]
	other := srv.AddClient(t, "ledger", "orders")
	s := vault().service(t, srv, "EdDSA", 0)
	s.want(t, 401, token(t, srv, other, "orders"), "another client with the same audience")
	s.want(t, 200, m.claim(object{"exp": in(-50 * time.Second), "iat": in(-time.Hour)}), "50 s after exp")
	s.want(t, 401, m.claim(object{"exp": in(-70 * time.Second), "iat": in(-time.Hour)}), "70 s after exp")
	s.want(t, 200, m.claim(object{"nbf": in(50 * time.Second)}), "50 s before nbf")
	s.want(t, 401, m.claim(object{"nbf": in(70 * time.Second)}), "70 s before nbf")
	s.want(t, 200, m.claim(object{"iat": in(50 * time.Second)}), "50 s before iat")
	s.want(t, 401, m.claim(object{"iat": in(70 * time.Second)}), "70 s before iat")
	s.want(t, 200, m.claim(object{"exp": nil, "iat": in(-200 * time.Second)}), "no exp, 200 s old")
	s.want(t, 401, m.claim(object{"exp": nil, "iat": in(-220 * time.Second)}), "no exp, 220 s old")
	s.want(t, 401, m.claim(object{"exp": nil, "iat": nil}), "no exp and no iat")

	_, body, err := s.ask(t.Context(), m.genuine)
	var login struct {
		Sub      string
		Policies []string
		Seconds  float64
	}
	if json.Unmarshal([]byte(body), &login) != nil || err != nil || login.Sub != clients["EdDSA"].ID ||
		login.Seconds != 15*60 || !slices.Equal(login.Policies, []string{"reports"}) {
		t.Errorf("a login: %s, %v", body, err)
	}
	awaitStage(t, srv, "EdDSA", "reserve")
	revoke(t, srv, m.key.kid, "--flush")
	s.want(t, 200, token(t, srv, clients["EdDSA"], "orders"), "the flushed key")
	s.want(t, 401, m.genuine, "the revoked key")
	srv.Run(t, "client", "remove", clients["EdDSA"].ID, "--yes")
	if resp := get(t, s.url+"/renew", nil); resp.StatusCode != 200 {
		t.Errorf("the Vault token is not renewed: %d", resp.StatusCode)
	}
}

// TestVaultWithOtherSettings: a role without leeway forgives nothing, one without an audience refuses all tokens, and one without
// a subject accepts each client of the audience.
func TestVaultWithOtherSettings(t *testing.T) {
	t.Parallel()
	srv, clients := issuer(t, slow, "10m")
	m := newMints(t, srv, clients)["EdDSA"]
	other := srv.AddClient(t, "ledger", "orders")
	run := func(changes ...string) service {
		s := vault().prepare(t, "EdDSA")
		var err error
		if s.url, err = startVault(t, settings{issuer: srv.Issuer, audience: s.audience, alg: s.alg}, changes...); err != nil {
			didNotStart(t, err)
		}
		return s
	}
	strict := run("token_ttl=15m", "token_ttl=15m clock_skew_leeway=-1 expiration_leeway=-1")
	strict.want(t, 200, m.genuine, "a valid token")
	strict.want(t, 401, m.claim(object{"exp": in(-2 * time.Second)}), "2 s after exp")
	strict.want(t, 401, m.claim(object{"exp": nil, "iat": in(-2 * time.Second)}), "no exp")
	strict.want(t, 401, m.claim(object{"iat": in(2 * time.Second)}), "2 s before iat")
	run("bound_audiences=orders", "").want(t, 401, m.genuine, "a token with an audience")
	run("bound_subject=billing-eddsa", "").want(t, 200, token(t, srv, other, "orders"), "another client")
}

// TestVaultNeedsTheIssuerForItsConfiguration, as its page says.
func TestVaultNeedsTheIssuerForItsConfiguration(t *testing.T) {
	t.Parallel()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	if url, err := startVault(t, settings{issuer: "http://" + address, audience: "orders", alg: "EdDSA"}); err == nil {
		t.Errorf("it listens on %q", url)
	}
}
