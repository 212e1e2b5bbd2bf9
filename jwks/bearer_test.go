package jwks

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
)

// FuzzBearer checks that the result is a token of RFC 6750, section 2.1, and that an error
// contains nothing of the input.
func FuzzBearer(f *testing.F) {
	for _, value := range []string{"Bearer abc", "bearer  a.b_c-d~e+f/g==", "Bearer", "Bearer a b", "Basic YTpi", "Bearer a=b", "\tBearer x", "Bearer x\n", "BEARER =", "secret"} {
		f.Add(value)
	}
	grammar := regexp.MustCompile(`\A[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)\z`)
	digits := regexp.MustCompile(`\d+`)
	sayings := []string{
		"<nil>", ErrNoToken.Error() + ": another scheme",
		ErrCredentials.Error() + ": what follows the scheme is not one token",
		ErrMalformed.Error() + ": N bytes, the limit is N",
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, err := Bearer([]string{value})
		match := grammar.FindStringSubmatch(value)
		if want := match != nil && len(value)-len("Bearer ") <= maxTokenBytes; want != (err == nil) {
			t.Fatalf("%q: %q, %v", value, token, err)
		}
		if err == nil && token != match[1] || err != nil && token != "" {
			t.Errorf("%q: %q, %v", value, token, err)
		}
		if said := digits.ReplaceAllString(fmt.Sprint(err), "N"); !slices.Contains(sayings, said) {
			t.Errorf("%q: %s", value, said)
		}
		if again, _ := Bearer([]string{value, value}); again != "" {
			t.Errorf("%q: accepted although there are two header lines", value)
		}
	})
}
