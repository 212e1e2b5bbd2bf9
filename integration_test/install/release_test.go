package install

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// files returns the files of a directory, by their names.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for _, e := range entries {
		if found[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestAReleaseIsTheSameBytesTwice: from another directory, with another umask, time zone and variables
// that change what go builds.
func TestAReleaseIsTheSameBytesTwice(t *testing.T) {
	first := files(t, released(t))
	other := filepath.Join(t.TempDir(), "another directory")
	if err := repository(other); err != nil {
		t.Fatal(err)
	}
	if out, err := run(other, nil, "chmod", "-R", "go-rwx", "."); err != nil {
		t.Fatal(out, err)
	}
	env := []string{"TZ=Asia/Tokyo", "GOFLAGS=-tags=other", "GOAMD64=v3", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=1"}
	if err := shell(other, append(env, "KEYMILL_ARCHITECTURES="+strings.Join(architectures(), " ")), "umask 077; scripts/release"); err != nil {
		t.Fatal(err)
	}
	second := files(t, filepath.Join(other, "dist"))
	for name, content := range first {
		if !bytes.Equal(content, second[name]) {
			t.Errorf("%s differs", name)
		}
	}
	if len(first) != len(second) || len(first) != 3+3*len(architectures()) {
		t.Errorf("%d and %d files", len(first), len(second))
	}
	t.Logf("counted: %d files of a release were the same bytes twice", len(first))
}

// TestAReleaseIsWhole: its checksums fit, its notes are those of its version, and each archive has a
// binary for its architecture that knows its version and its commit, with a unit and documents. The binary is static, and
// in the archives for glibc it needs glibc and no other library.
func TestAReleaseIsWhole(t *testing.T) {
	dist := released(t)
	if out, err := run(dist, nil, "sha256sum", "--check", "--strict", "SHA256SUMS"); err != nil || strings.Count(out, ": OK\n") != 2+3*len(architectures()) {
		t.Errorf("%v: %s", err, out)
	}
	all := files(t, dist)
	if notes := string(all["RELEASE_NOTES.md"]); !strings.HasPrefix(notes, "## "+version+" (2026-11-28)\n") || strings.Count(notes, "\n## ") > 0 {
		t.Errorf("the notes: %.200s", notes)
	}
	for _, arch := range architectures() {
		name := fmt.Sprintf("keymill_%s_linux_%s", version, arch)
		wantArchive(t, all, name, arch, wantStatic)
		wantArchive(t, all, name+"_glibc", arch, wantGlibc, "github.com/ebitengine/purego@")
	}
}

// wantArchive wants that one of the files of a release has what it needs, with a binary as linked wants it, and with the
// licences of more libraries.
func wantArchive(t *testing.T, all map[string][]byte, name, arch string, linked func(*testing.T, string, *elf.File), more ...string) {
	t.Helper()
	unzipped, err := gzip.NewReader(bytes.NewReader(all[name+".tar.gz"]))
	if err != nil {
		t.Fatal(name, err)
	}
	archive := unpacked(t, unzipped)
	for _, file := range []string{
		"LICENSE", "LICENSES", "README.md", "CHANGELOG.md", "keymill.service", "keymill.socket", "keymill.yaml", "scripts/deploy/kubernetes/statefulset.yaml",
		"docs/operate.md", "docs/verify/README.md", "man/keymill.1", "man/keymill-serve.1", "completions/keymill.bash",
	} {
		if len(archive[name+"/"+file]) == 0 {
			t.Errorf("%s has no %s", name, file)
		}
	}
	wantLinks(t, archive, name)
	binary := archive[name+"/keymill"]
	file, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(name, err)
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; file.Machine != want {
		t.Errorf("%s is for %v", name, file.Machine)
	}
	linked(t, name, file)
	if arch == runtime.GOARCH {
		wantVersion(t, binary)
	}
	for _, library := range append(more, "github.com/spf13/cobra@", "go.etcd.io/bbolt@", "golang.org/x/crypto@", "\n==== Go\n") {
		if !bytes.Contains(archive[name+"/LICENSES"], []byte(library)) {
			t.Errorf("LICENSES of %s lacks %s", name, library)
		}
	}
}

// TestThePagesOfThePackageLinkToItsFiles.
func TestThePagesOfThePackageLinkToItsFiles(t *testing.T) {
	needs(t, "dpkg-deb")
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--fsys-tarfile", filepath.Join(released(t), "keymill_"+version+"_"+runtime.GOARCH+".deb")).Output()
	if err != nil {
		t.Fatal(err)
	}
	wantLinks(t, unpacked(t, bytes.NewReader(out)), "usr/share/doc/keymill")
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// wantLinks wants that what the pages below dir link to is among the files. Links to the source code, which no
// package has, do not count.
func wantLinks(t *testing.T, files map[string][]byte, dir string) {
	t.Helper()
	links := 0
	for name, content := range files {
		if below, ok := strings.CutPrefix(name, dir+"/"); !ok || path.Ext(below) != ".md" {
			continue
		}
		for _, found := range link.FindAllSubmatch(content, -1) {
			target := string(found[1])
			if path.Ext(target) == ".go" || strings.Contains(target, "integration_test") {
				continue
			}
			links++
			target = path.Join(path.Dir(name), target)
			if _, ok := files[target]; !ok && !isDirectory(files, target) {
				t.Errorf("%s links to %s, which is missing", name, target)
			}
		}
	}
	if links < 50 {
		t.Errorf("found %d links below %s", links, dir)
	}
}

func isDirectory(files map[string][]byte, dir string) bool {
	for name := range files {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// wantStatic wants a program that needs no interpreter and no library.
func wantStatic(t *testing.T, name string, binary *elf.File) {
	t.Helper()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s has %v", name, p.Type)
		}
	}
}

// wantGlibc wants a program that needs the loader and the libraries of glibc, and not libcrypto, which it loads itself.
func wantGlibc(t *testing.T, name string, binary *elf.File) {
	t.Helper()
	loader := map[elf.Machine]string{elf.EM_X86_64: "/lib64/ld-linux-x86-64.so.2", elf.EM_AARCH64: "/lib/ld-linux-aarch64.so.1"}[binary.Machine]
	section := binary.Section(".interp")
	if section == nil {
		t.Fatalf("%s needs no loader", name)
	}
	interpreter, err := section.Data()
	if err != nil || string(bytes.TrimRight(interpreter, "\x00")) != loader {
		t.Errorf("%s needs the loader %q, %v", name, interpreter, err)
	}
	libraries, err := binary.ImportedLibraries()
	if slices.Sort(libraries); err != nil || !slices.Equal(libraries, []string{"libc.so.6", "libdl.so.2", "libpthread.so.0"}) {
		t.Errorf("%s needs %q, %v", name, libraries, err)
	}
}

func wantVersion(t *testing.T, binary []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keymill")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := run("", nil, path, "--version")
	if want := "of 2026-11-28T12:00:00Z)\n"; err != nil || !strings.HasPrefix(out, "keymill "+version+" (go") || !strings.HasSuffix(out, want) || !strings.Contains(out, ", commit ") {
		t.Errorf("%v: %q", err, out)
	}
}

// TestTheManualHasNoMistakes that groff can find, on any page.
func TestTheManualHasNoMistakes(t *testing.T) {
	needs(t, "groff", "tar")
	dir := filepath.Dir(binary(t))
	pages, _ := filepath.Glob(filepath.Join(dir, "man", "*.1"))
	if out, err := run(dir, nil, "groff", append([]string{"-man", "-ww", "-Kutf8", "-Tutf8", "-z"}, pages...)...); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	if len(pages) < 40 {
		t.Errorf("there are %d pages", len(pages))
	}
}

// fakeGo is a go command that prints the flags of the linker and builds nothing.
const fakeGo = `#!/bin/sh
[ "$1" = build ] || exit 0
echo "$@"
exit 1
`

// TestAReleaseNeedsATagThatFits, and a build of any other commit is called a snapshot. Nothing is built
// where it is refused.
func TestAReleaseNeedsATagThatFits(t *testing.T) {
	needs(t, "git", "jq", "dpkg-deb", "readelf")
	dir := t.TempDir()
	source, programs := filepath.Join(dir, "source"), filepath.Join(dir, "bin")
	if err := repository(source); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(programs, "go"), []byte(fakeGo), 0o755); err != nil {
		t.Fatal(err)
	}
	const again = "git reset -q --hard base; git clean -fdqx; git tag -l 'v*' other | xargs -r git tag -d >/dev/null; git tag v0.1.0; "
	if err := shell(source, nil, "git branch base"); err != nil {
		t.Fatal(err)
	}
	const commit = "git -c user.name=Test -c user.email=test@example.com commit -qam Another; git tag -d v0.1.0 >/dev/null; "
	for name, tt := range map[string]struct{ change, args, want string }{
		"as it is":             {"", "", "-X main.release=0.1.0 "},
		"a changed file":       {"echo >>README.md", "", "the tree differs from the commit"},
		"an unknown file":      {"echo >new", "", "?? new"},
		"no section":           {"sed -i 's/^## 0.1.0.*/## 0.0.9 (2026-11-01)/' CHANGELOG.md;" + commit + "git tag v0.1.0", "", `CHANGELOG.md has no section "## 0.1.0"`},
		"a similar section":    {"sed -i 's/^## 0.1.0.*/## 0.1.01 (2026-11-01)/' CHANGELOG.md;" + commit + "git tag v0.1.0", "", `CHANGELOG.md has no section "## 0.1.0"`},
		"not released":         {"sed -i 's/^## 0.1.0.*/## 0.1.0 (not released yet)/' CHANGELOG.md;" + commit + "git tag v0.1.0", "", "CHANGELOG.md says that 0.1.0 is not released yet"},
		"another version":      {"git tag -d v0.1.0; git tag v0.2.0", "", "the tag is v0.2.0, and cmd/keymill/version.go has the version 0.1.0"},
		"two tags":             {"git tag v0.1.1", "", "more than one tag: v0.1.0 v0.1.1"},
		"an incomplete tag":    {"git tag -d v0.1.0; git tag v0.1", "", "the tag v0.1 is not vX.Y.Z"},
		"no tag":               {"git tag -d v0.1.0", "", "-X main.release=0.1.0-snapshot.20261128."},
		"a tag of another":     {"git tag other", "", "-X main.release=0.1.0 "},
		"an argument":          {"", "0.3.0", "-X main.release=0.3.0-snapshot.20261128."},
		"no version":           {"", "today", `the version "today" is not of the form X.Y.Z`},
		"a version and more":   {"", "0.3.0 x", "usage: scripts/release"},
		"a wrong architecture": {"export KEYMILL_ARCHITECTURES=mips", "", "unknown architecture mips"},
	} {
		script := fmt.Sprintf("%s%s\nscripts/release %s", again, tt.change, tt.args)
		err := shell(source, []string{"PATH=" + programs + ":" + os.Getenv("PATH")}, script)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: want %q: %v", name, tt.want, err)
		}
		built := slices.Contains(strings.Fields(fmt.Sprint(err)), "-trimpath")
		if wants := strings.HasPrefix(tt.want, "-X"); built != wants {
			t.Errorf("%s: it was built: %t", name, built)
		}
		if _, err := os.Stat(filepath.Join(source, "dist", "SHA256SUMS")); err == nil {
			t.Errorf("%s: there is a release", name)
		}
	}
}
