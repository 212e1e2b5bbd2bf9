package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAMarkThatIsAnotherFileIsRefusedBeforeAnythingIsWritten by every command that would write a mark or read it.
func TestAMarkThatIsAnotherFileIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	p := made(t)
	if err := os.Symlink(p.data, filepath.Join(p.dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"data/lock", "link/keymill.db", "data/../data/keymill.db", "data/admin.sock", "master.key", "data", "missing/../keymill.mark"} {
		env := append(p.env(), "KEYMILL_STORE_MARK_FILE="+mark)
		before := snapshot(t, p.dir)
		for _, args := range [][]string{p.serveArgs(), {"init", "--data", filepath.Join(p.dir, "new")}, {"doctor"}} {
			if args[0] == "init" && filepath.Dir(mark) != "." && !strings.HasPrefix(mark, "missing") {
				continue // the files of another store
			}
			out, errs, code := p.runWith(env, args...)
			if code != 1 || out != "" || !strings.HasPrefix(errs, "keymill: KEYMILL_STORE_MARK_FILE: "+mark+" ") || strings.Count(errs, "\n") != 2 {
				t.Errorf("%s, %s: code %d\n%s%s", mark, args[0], code, out, errs)
			}
			if after := snapshot(t, p.dir); after != before {
				t.Fatalf("%s, %s: the disk changed; before:\n%safter:\n%s", mark, args[0], before, after)
			}
		}
	}
	if _, errs, code := p.runWith(append(p.env(), "KEYMILL_STORE_MARK_FILE="+filepath.Join(p.dir, "fresh/lock")), "init", "--data", "fresh"); code != 1 || !strings.Contains(errs, "is the file lock of the data directory") {
		t.Errorf("a directory that is still to be made: code %d, %s", code, errs)
	}
}
