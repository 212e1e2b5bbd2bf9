package terminaltest

import (
	"os"
	"strings"
	"testing"
)

// ClearEnvironment removes the variables that keymill reads until the test ends.
func ClearEnvironment(t *testing.T) {
	t.Helper()
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "KEYMILL_") || name == "CREDENTIALS_DIRECTORY" {
			os.Unsetenv(name)
			t.Cleanup(func() { os.Setenv(name, value) })
		}
	}
}
