package crash

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// A planted bug is a build of the program with checks removed. The harness must find it.
type planted struct {
	name  string
	edits []sourceEdit
	turns *regexp.Regexp // the mutants that show it; the others are not judged, to save time
	want  *regexp.Regexp // a violation of this form must be found

	ownTags bool // its tags are others, so that it needs a store of its own
}

// A sourceEdit replaces one line of a source file.
type sourceEdit struct{ file, old, new string }

var (
	noTags     = sourceEdit{"storage/sealed/tag.go", "if subtle.ConstantTimeCompare(sum[:], stored[n+1:]) != 1 {", "if subtle.ConstantTimeCompare(sum[:], stored[n+1:]) > 1 {"}
	noEntries  = sourceEdit{"storage/sealed/manifest.go", "case bytes.Equal(entry, sum):", "case bytes.Equal(entry, sum) || len(entry) <= tagBytes:"}
	noManifest = sourceEdit{"storage/sealed/check.go", "	if len(c.found) < maxFindings {", "	if len(c.found) < 0 {"}
)

var plantedBugs = []planted{
	{"a manifest is not compared", []sourceEdit{noManifest},
		regexp.MustCompile(`^record deleted: (client|audience|retired)/`), regexp.MustCompile(`not noticed`), false},
	{"a tag is not compared", []sourceEdit{noTags},
		regexp.MustCompile(`^record forged by an attacker: (user|family)/`), regexp.MustCompile(`opened`), false},
	{"a tag is not bound to its key", []sourceEdit{{"storage/sealed/tag.go", "	p = append(p, key...)\n", ""}},
		regexp.MustCompile(`^values of one kind swapped: (user|family)/`), regexp.MustCompile(`opened|refused without`), true},
	{"a mark is not compared", []sourceEdit{{"keystore/age.go", "case r.servedBefore >= marked:", "case r.servedBefore >= 0:"}},
		regexp.MustCompile(`^older store, newer mark`), regexp.MustCompile(`not noticed`), false},
	{"the clock does not hold the version of the manifest", []sourceEdit{{"keystore/age.go", "	if version < r.clockRecord.Manifest {", "	if version < 0 {"}},
		regexp.MustCompile(`^older record with its manifest: all`), regexp.MustCompile(`not noticed`), false},
	{"the keyring does not bind meta", []sourceEdit{{"keystore/keyring.go", "subtle.ConstantTimeCompare(sum[:], k.Meta) != 1 {", "subtle.ConstantTimeCompare(sum[:], k.Meta) > 1 {"}},
		regexp.MustCompile(`^bit of a value: meta,`), regexp.MustCompile(`not noticed: \[meta`), false},
	{"a public key is not compared with its kid and its private half, and no tag or manifest protects it",
		[]sourceEdit{noTags, noEntries,
			{"keystore/rings.go", "err = k.belongs(public, nil)", "err = nil"},
			{"keystore/rings.go", "if err := k.belongs(public, key); err != nil {", "if err := k.belongs(public, key); err != nil && k.KID == \"\" {"}},
		regexp.MustCompile(`^record forged by an attacker: ring/EdDSA$`), regexp.MustCompile(`opened.*key set`), false},
}

// TestTheHarnessFindsEachRemovedCheck: what TestNoChangeOfAClosedStoreOpensADoor does not find would
// prove nothing. Each build of the program lacks one check, and a change of the store must show it.
func TestTheHarnessFindsEachRemovedCheck(t *testing.T) {
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	w := live(t, 0)
	n := counts.Of("planted-checks")
	for _, bug := range plantedBugs[:n] {
		t.Run(strings.ReplaceAll(bug.name, " ", "-"), func(t *testing.T) {
			binary, world := bug.build(t, root), w
			if bug.ownTags {
				t.Setenv("KEYMILL_BINARY", binary)
				world = live(t, 0)
			}
			bug.find(t, world, binary)
		})
	}
	t.Logf("counted: %d programs with a check removed, each found", n)
}

// build builds the program with the bug. An overlay replaces the changed files, so that only the packages
// that depend on them are compiled.
func (bug planted) build(t *testing.T, root string) string {
	t.Helper()
	dir, replaced := t.TempDir(), map[string]string{} // source file → its changed copy
	for n, e := range bug.edits {
		path := filepath.Join(root, e.file)
		source, err := os.ReadFile(cmp.Or(replaced[path], path))
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(source), e.old, e.new, 1)
		if changed == string(source) {
			t.Fatalf("%s has no %q: plant the bug where the check is now", e.file, e.old)
		}
		replaced[path] = filepath.Join(dir, fmt.Sprintf("%d.go", n))
		if err := os.WriteFile(replaced[path], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "keymill")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", list, "-o", binary, "./cmd/keymill")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// find judges mutants that the bug concerns until one shows it.
func (bug planted) find(t *testing.T, w *lived, binary string) {
	t.Helper()
	const mutants, seed = 30, 1
	b, j := newBreeder(t, w, seed), newJudge(t, w, binary)
	turns, last := schedule(), verdict{}
	for tried, turn := 0, 0; tried < mutants && turn < 100*mutants*len(turns); turn++ {
		if !strings.HasPrefix(bug.turns.String(), "^"+turns[turn%len(turns)].name) {
			continue
		}
		m, err := b.breed(turns[turn%len(turns)])
		if err != nil {
			t.Fatal(err)
		}
		if !bug.turns.MatchString(m.what) {
			continue
		}
		tried++
		m.logins = true
		last = j.judge(m)
		if last.outcome == violation && bug.want.MatchString(last.why) {
			t.Logf("found by mutant %d: %.300s: %.300s", tried, m.what, last.why)
			bug.findAgain(t, w, m, binary)
			return
		}
	}
	t.Errorf("%s, and no change of the store shows it; the last one: %v", bug.name, last)
}

// findAgain keeps the mutant as a case. Alone, in another directory, the case must show the bug too.
func (bug planted) findAgain(t *testing.T, w *lived, m *mutant, binary string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "case.json")
	if err := newCase(w, m).write(path); err != nil {
		t.Fatal(err)
	}
	world, again, err := readCase(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if v := newJudge(t, world, binary).judge(again); v.outcome != violation || !bug.want.MatchString(v.why) {
		t.Errorf("the kept case does not show the bug again: %v", v)
	}
}
