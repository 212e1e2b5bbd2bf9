package libcrypto

import (
	"strings"
	"testing"
)

// TestOnlyABuildWithTheTagTakesLibcrypto: without it the setting is an error that says what to do.
func TestOnlyABuildWithTheTagTakesLibcrypto(t *testing.T) {
	for _, setting := range []string{"", Go, Auto} {
		if err := Check(setting); err != nil {
			t.Errorf("%q: %v", setting, err)
		}
	}
	if err := Check("openssl"); err == nil || !strings.Contains(err.Error(), `"openssl" is not one of go, libcrypto, auto`) {
		t.Errorf("openssl: %v", err)
	}
	err := Check(Libcrypto)
	if Supported() != (err == nil) || err != nil && !strings.Contains(err.Error(), "write auto or go") {
		t.Errorf("supported: %v; %v", Supported(), err)
	}
}
