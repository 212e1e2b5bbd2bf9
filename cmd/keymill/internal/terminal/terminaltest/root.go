package terminaltest

import (
	"os"
	"testing"
)

// NeedRoot skips a test that only root can run, for example because it gives files to other users. It fails the test if CI
// is set.
func NeedRoot(t *testing.T) {
	t.Helper()
	const reason = "this test must run as root"
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") != "":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}
