// Package libcryptotest compiles a libcrypto with faults, for tests.
package libcryptotest

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// source is not named fake.c, because the go command compiles such files.
//
//go:embed fake.c.txt
var source string

// A Fake is a library with the name of libcrypto that has one fault at a time. The letters are in fake.c.txt.
type Fake struct {
	Path  string
	Fault string // the file with the letter of the fault
}

// Compile makes a fake without a fault. It is linked with the libcrypto of the system.
func Compile(t *testing.T) Fake {
	t.Helper()
	f := Fake{filepath.Join(t.TempDir(), "libcrypto.so.3"), filepath.Join(t.TempDir(), "fault")}
	real, err := exec.Command("gcc", "-print-file-name=libcrypto.so.3").Output()
	if err != nil {
		t.Fatalf("gcc: %v; scripts/install-deps installs it", err)
	}
	system, err := filepath.EvalSymlinks(strings.TrimSpace(string(real)))
	if err != nil {
		t.Fatalf("OpenSSL 3 is missing; scripts/install-deps installs it: %v", err)
	}
	gcc := exec.Command("gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", f.Path, fmt.Sprintf("-DFAULT=%q", f.Fault),
		fmt.Sprintf("-DREAL=%q", system), "-xc", "-", "-xnone", "-Wl,--no-as-needed", system, "-ldl")
	gcc.Stdin = strings.NewReader(source)
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return f
}

// Overwrite changes the file in place, while processes have it mapped. It only makes it longer: to truncate it would crash them.
func (f Fake) Overwrite(t *testing.T) {
	t.Helper()
	file, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write([]byte{0}); err != nil {
		t.Error(err)
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}

// Set makes the fake have a fault; "" for none.
func (f Fake) Set(t *testing.T, fault string) {
	t.Helper()
	err := os.WriteFile(f.Fault, []byte(fault), 0o600)
	if fault == "" {
		err = os.Remove(f.Fault)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
