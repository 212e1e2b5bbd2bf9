package install

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestThePackageLivesOnADebian: the package is installed as it says, serves under its hardened unit, is
// upgraded, removed and purged. The script names each step.
func TestThePackageLivesOnADebian(t *testing.T) {
	out := onMachine(t, "package")
	if !strings.HasSuffix(out, "all steps passed\n") {
		t.Errorf("it ended early:\n%s", out)
	}
	t.Logf("counted: %d steps in the life of a package", strings.Count(out, "== "))
}

// TestTheUnitIsHardened: systemd-analyze gives it at most 2.0 of 10 points of exposure.
func TestTheUnitIsHardened(t *testing.T) {
	needs(t, "systemd-analyze")
	const path = "../../scripts/deploy/keymill.service"
	out, err := run("", nil, "systemd-analyze", "security", "--offline=true", "--no-pager", path)
	_, found, _ := strings.Cut(out, "Overall exposure level for keymill.service: ")
	if points, errNumber := strconv.ParseFloat(strings.Fields(found + " none")[0], 64); err != nil || errNumber != nil || points > 2 {
		t.Errorf("%v: %s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "\nProcSubset=pid") {
		t.Error("ProcSubset=pid hides net.core.somaxconn, so that 128 connections can wait at most")
	}
}
