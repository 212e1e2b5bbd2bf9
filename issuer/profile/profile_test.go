package profile

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"keymill/issuer/refusal"
)

// said returns what a client reads of a refusal, "" if err is none.
func said(err error) string {
	if r := (*refusal.Refusal)(nil); errors.As(err, &r) && r.Code == "invalid_request" {
		return r.Description
	}
	return ""
}

// TestAProfileFixesTypeAndAlgorithm repeats the table of the package, with what is refused.
func TestAProfileFixesTypeAndAlgorithm(t *testing.T) {
	for _, tt := range []struct{ profile, alg, typ, refused string }{
		{"rfc9068", "EdDSA", "at+jwt", ""}, {"rfc9068", "RS256", "JWT", ""}, {"", "EdDSA", "at+jwt", ""},
		{"simplejwt", "RS256", "at+jwt", ""}, {"simplejwt", "RS256", "JWT", ""},
		{"simplejwt", "EdDSA", "at+jwt", "djangorestframework-simplejwt cannot verify EdDSA: give this audience alg RS256"},
		{"spring", "RS256", "JWT", ""}, {"spring", "ES256", "JWT", ""},
		{"spring", "EdDSA", "JWT", "Spring Security cannot verify EdDSA: give this audience alg RS256"},
		{"spring", "RS256", "at+jwt", "type 'at+jwt' does not fit profile spring: Spring Security accepts JWT only"},
		{"Spring", "RS256", "JWT", "profile 'Spring' is none of rfc9068, simplejwt, spring"},
		{strings.Repeat("s", 10_000), "RS256", "JWT", "is none of rfc9068, simplejwt, spring"},
	} {
		p, err := Check(tt.profile, tt.alg, tt.typ, []string{"RS256", "EdDSA"})
		switch {
		case tt.refused == "" && (err != nil || tt.profile != "" && p.Name != tt.profile):
			t.Errorf("%s %s %s: %+v, %v", tt.profile, tt.alg, tt.typ, p, err)
		case tt.refused != "" && (!strings.Contains(said(err), tt.refused) || len(said(err)) > 300):
			t.Errorf("%.20s %s %s: %q, want %q", tt.profile, tt.alg, tt.typ, said(err), tt.refused)
		}
	}
	if _, err := Check("spring", "EdDSA", "JWT", []string{"EdDSA"}); err == nil || !strings.Contains(err.Error(), "RS256 or ES256 is not in keys.algorithms") {
		t.Errorf("without a ring for spring: %v", err)
	}
	for _, name := range Names() {
		if p, known := Find(name); !known || len(p.Types) == 0 || slices.ContainsFunc(p.Types, func(typ string) bool { return CheckType(typ) != nil }) {
			t.Errorf("profile %s: %+v", name, p)
		}
	}
}

// TestATypeHasOneSpelling: some software compares the type byte for byte.
func TestATypeHasOneSpelling(t *testing.T) {
	for _, typ := range []string{
		"", " ", "jwt", "Jwt", "JWT ", " JWT", "at+JWT", "AT+JWT", "at+jwt ", "application/at+jwt", "application/jwt", "ID", "id_token", "JWT,at+jwt",
		"at+jwt JWT", "none", "\x00", "JWT\n", "ЈWT", strings.Repeat("J", 10_000),
	} {
		err := CheckType(typ)
		if got := said(err); !strings.HasSuffix(got, "is neither at+jwt nor JWT") || len(got) > 300 {
			t.Errorf("type %.20q: %q", typ, got)
		}
	}
	for _, typ := range []string{"at+jwt", "JWT"} {
		if err := CheckType(typ); err != nil {
			t.Error(err)
		}
	}
}
