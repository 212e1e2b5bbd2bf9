package diagnose

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"keymill/cmd/keymill/internal/namedfile"
)

// TestAFaultWithoutALineToTypeShowsNone: what neither chown nor chmod mends has only its reason. A line that mends
// several files is shown once.
func TestAFaultWithoutALineToTypeShowsNone(t *testing.T) {
	dir := t.TempDir()
	loop, file := filepath.Join(dir, "loop"), filepath.Join(dir, "file")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	faults := []*namedfile.Fault{
		{Path: "/d/a", What: "/d/a belongs to root", Hint: "chown 7 /d"},
		{Path: "/d/b", What: "/d/b belongs to root", Hint: "chown 7 /d"},
	}
	for _, path := range []string{loop, filepath.Join(file, "below"), filepath.Join(loop, "below")} {
		f := namedfile.Check(namedfile.Need{Path: path, Use: namedfile.ToRead})
		if f == nil {
			t.Fatalf("%s: no fault", path)
		}
		faults = append(faults, f)
	}
	d := &Doctor{}
	d.reportAccess(account{uid: 1 << 30}, faults)
	var got []string
	for _, c := range d.findings.Checks {
		got = append(got, c.Detail)
	}
	const server = "the server's user, uid 1073741824: "
	want := []string{
		server + "/d/a belongs to root; type: chown 7 /d",
		server + "cannot read " + loop + ": too many levels of symbolic links",
		server + "cannot read " + filepath.Join(file, "below") + ": not a directory",
		server + "cannot read " + filepath.Join(loop, "below") + ": too many levels of symbolic links",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
