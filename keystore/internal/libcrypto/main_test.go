//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	RunProof()
	if os.Getenv("KEYMILL_TEST_MDWE") != "" {
		os.Exit(withoutWritableCode())
	}
	os.Exit(m.Run())
}

// A fake is a library with faults, see testdata/fake.c.
type fake struct {
	path  string
	fault string // a file
}

// newFake compiles a fake without a fault.
func newFake(t *testing.T) fake {
	t.Helper()
	real := systemLibrary(t)
	f := fake{filepath.Join(t.TempDir(), soname), filepath.Join(t.TempDir(), "fault")}
	gcc := exec.Command("gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", f.path, fmt.Sprintf("-DFAULT=%q", f.fault), fmt.Sprintf("-DREAL=%q", real),
		"testdata/fake.c", "-Wl,--no-as-needed", real, "-ldl")
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return f
}

// set makes the fake have a fault; "" for none.
func (f fake) set(t *testing.T, fault string) {
	t.Helper()
	err := os.WriteFile(f.fault, []byte(fault), 0o600)
	if fault == "" {
		err = os.Remove(f.fault)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// opening has a proof of few messages. With the race detector the child would sleep for a second before it ends.
func (f fake) opening() opening {
	return opening{path: f.path, messages: 10, patience: patience, env: []string{"GORACE=atexit_sleep_ms=0"}}
}

func (f fake) open(t *testing.T) *Library {
	t.Helper()
	l, err := f.opening().open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func systemLibrary(t testing.TB) string {
	t.Helper()
	path, err := find()
	if err != nil {
		t.Fatal(err) // scripts/install-deps installs it
	}
	return path
}

// imported returns the first of the proofKeys in l.
func imported(t testing.TB, l *Library) *Key {
	t.Helper()
	keys, err := readProofKeys()
	if err != nil {
		t.Fatal(err)
	}
	k, err := l.Import(keys[0].pkcs8, &keys[0].private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// withoutWritableCode opens the library in a process that cannot make memory executable, and returns an exit code.
func withoutWritableCode() int {
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 77
	}
	if _, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
		fmt.Println("memory can be writable and executable")
		return 1
	}
	// The proof makes an import and signatures, in a child that has the same limit.
	l, err := fake{path: os.Getenv("KEYMILL_TEST_MDWE")}.opening().open(context.Background())
	if err == nil {
		_, err = l.signKnown()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
