package install

import (
	"strings"
	"testing"
)

// TestTheBuildForGlibcSignsWithLibcrypto under the hardened unit, and where memory cannot become executable. The script
// names each step.
func TestTheBuildForGlibcSignsWithLibcrypto(t *testing.T) {
	needs(t, "perl", "jq")
	if out := onMachine(t, "libcrypto"); !strings.HasSuffix(out, "all steps passed\n") {
		t.Errorf("it ended early:\n%s", out)
	}
}
