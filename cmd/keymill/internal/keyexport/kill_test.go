package keyexport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// killedDir names the directory to the process that is killed.
const killedDir = "KEYMILL_TEST_EXPORT_DIR"

// TestMain is also the process that is killed. All of an export runs on its first thread, because strace counts
// the calls of each thread.
func TestMain(m *testing.M) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	d, err := open(context.Background(), dir)
	if err == nil {
		_, err = d.update(manifest{Format: PEM}, killedFiles("b", "c"), func(changes) error { return nil })
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killedFiles returns the files of these keys.
func killedFiles(kids ...string) map[string][]byte {
	all := map[string][]byte{}
	for _, kid := range kids {
		all[kid+".pem"], _ = publicPEM(key(kid))
	}
	return all
}

// TestAnExportKilledAtAnyCallLosesNothing: each file is whole and a key is there as long as it is published. The next
// export ends what was begun, says that something has changed, and leaves no other file.
func TestAnExportKilledAtAnyCallLosesNothing(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	w := newWorld(t)
	run := func(options ...string) string {
		t.Helper()
		if err := os.RemoveAll(w.dir); err != nil {
			t.Fatal(err)
		}
		w.changes("a", "b")
		cmd := exec.CommandContext(t.Context(), strace, append(append([]string{"-f", "-qq"}, options...), os.Args[0])...)
		cmd.Env = append(os.Environ(), killedDir+"="+w.dir)
		out, _ := cmd.CombinedOutput() // an error if it was killed
		return string(out)
	}
	log := filepath.Join(t.TempDir(), "calls")
	const calls = "write,fsync,fchmod,renameat,renameat2,unlinkat"
	if out := run("-o", log, "-e", "trace="+calls); out != "" {
		t.Fatal(out)
	}
	w.has("b.pem", "c.pem")
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, call := range regexp.MustCompile(`(?m)^\d+ +(\w+)\(`).FindAllStringSubmatch(string(text), -1) {
		count[call[1]]++
	}
	if count["fsync"] < 7 || count["unlinkat"] < 2 || count["renameat"]+count["renameat2"] != 3 {
		t.Fatalf("the calls are %v", count)
	}
	for name, n := range count {
		for number := range n {
			run("-o", os.DevNull, "-e", "trace="+name, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", name, number+1))
			w.survived(fmt.Sprintf("killed at %s number %d of %d", name, number+1, n))
		}
	}
	t.Logf("counted: killed at %v", count)
}

// survived checks the directory after a kill, and runs the export again.
func (w *world) survived(when string) {
	w.t.Helper()
	var kids []string
	for _, name := range files(w.t, w.dir) {
		kid, isKey := strings.CutSuffix(name, ".pem")
		if isKey && w.read(name) != pemOf(w.t, kid) || !isKey && name != manifestName && name != tempName {
			w.t.Errorf("%s: there is %s: %q", when, name, w.read(name))
		}
		if isKey {
			kids = append(kids, kid)
		}
	}
	if !slices.Contains(kids, "b") || !slices.Contains(kids, "a") && !slices.Contains(kids, "c") {
		w.t.Errorf("%s: a key is missing: %q", when, kids)
	}
	m, err := parseManifest([]byte(w.read(manifestName)))
	if err != nil {
		w.t.Fatalf("%s: %v", when, err)
	}
	done := !m.Unfinished && slices.Equal(kids, []string{"b", "c"}) // killed after the last change
	if err := w.export(PEM, setOf(w.t, "b", "c")); done && err != nil || !done && !errors.Is(err, Changed) {
		w.t.Errorf("%s: the next export: %v", when, err)
	}
	if w.errs.Len() > 0 {
		w.t.Errorf("%s: the next export warned: %s", when, w.errs.String())
	}
	w.has("b.pem", "c.pem")
}
