package serve

import (
	"os"
	"strings"
	"testing"
)

// TestMain removes the settings of this environment, which no test expects.
func TestMain(m *testing.M) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "KEYMILL_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}
