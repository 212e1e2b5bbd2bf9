//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheKnownSignaturesAreThoseOfGo: the parent compares with them, so it need not believe the child.
func TestTheKnownSignaturesAreThoseOfGo(t *testing.T) {
	sum, err := knownSum(func(k proofKey, digest []byte) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, k.private, crypto.SHA256, digest)
	})
	if err != nil || sum != knownSignatures {
		t.Errorf("knownSignatures is %q, and crypto/rsa makes %q, %v", knownSignatures, sum, err)
	}
}

func TestTheLibraryOfTheSystemIsProven(t *testing.T) {
	l, err := Open(t.Context(), systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(l.Version(), "3.") || l.file.Inode == 0 || len(l.file.SHA256) != 64 {
		t.Errorf("version %s, %+v", l.Version(), l.file)
	}
}

// TestALibraryThatFailsTheProofIsNotLoaded: the child finds each fault, and says which.
func TestALibraryThatFailsTheProofIsNotLoaded(t *testing.T) {
	f := newFake(t)
	for _, tt := range []struct{ fault, want string }{
		{"o", "OpenSSL 1.1; at least 3.0"},
		{"n", "OpenSSL 4.0; at least 3.0"},
		{"C", "exit status 2: SIGSEGV"}, // the runtime of Go ends the child
		{"A", "exit status 2: SIGABRT"},
		{"H", "hangs"},
		{"X", "without a report"},
		{"G", "without a report"},
		{"r", "cannot read the key"},
		{"m", "no memory"},
		{"f", "failed with the error"},
		{"z", "is wrong"},
		{"l", "is wrong"},
		{"e", "is wrong"},
		{"w", "is wrong"},
		{"g", "is wrong"},
		{"c", "exit status 2: SIGSEGV"},
		{"h", "hangs"},
	} {
		f.Set(t, tt.fault)
		o := f.opening()
		if tt.want == "hangs" {
			o.patience = time.Second
		}
		_, err := o.open(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("fault %s: %v; want %s", tt.fault, err, tt.want)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(maps), f.Path) {
		t.Error("the library is loaded in this process")
	}
	f.Set(t, "")
	f.open(t)
}

func TestAFileThatIsNoLibraryIsRefused(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(dir, "none"): "no such file", text: "load " + text, dir: "not a library"} {
		if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", path, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, systemLibrary(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestAPrivilegedProgramLoadsTheLibraryOfTheSystemOnly: its file has capabilities, and any user can start the proof.
func TestAPrivilegedProgramLoadsTheLibraryOfTheSystemOnly(t *testing.T) {
	system, other := systemLibrary(t), filepath.Join(t.TempDir(), soname)
	if allowed(system, true) != nil || allowed(other, false) != nil || allowed(other, true) == nil || privileged() {
		t.Errorf("%v, %v, %v; privileged: %v", allowed(system, true), allowed(other, false), allowed(other, true), privileged())
	}
}

// TestALibraryThatIsReplacedBetweenProofAndLoadIsRefused: what was proven is what is loaded.
func TestALibraryThatIsReplacedBetweenProofAndLoadIsRefused(t *testing.T) {
	f := newFake(t)
	other, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	for name, replace := range map[string]func() error{
		"renamed": func() error {
			return errors.Join(os.WriteFile(f.Path+".new", other, 0o700), os.Rename(f.Path+".new", f.Path))
		},
		"overwritten": func() error { return os.WriteFile(f.Path, append(other, 0), 0o700) },
	} {
		o := f.opening()
		o.proven = func() {
			if err := replace(); err != nil {
				t.Error(err)
			}
		}
		if _, err := o.open(t.Context()); !errors.Is(err, errReplaced) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNothingNeedsMemoryThatIsWritableAndExecutable, as MemoryDenyWriteExecute= of the unit refuses it.
func TestNothingNeedsMemoryThatIsWritableAndExecutable(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "KEYMILL_TEST_MDWE="+systemLibrary(t))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Skipf("this kernel has no PR_SET_MDWE: %s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
