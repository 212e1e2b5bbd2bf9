package main

import (
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDoctorFindsDamagedPages that a start does not look at, and ends with one line for each check.
//
// I28.
func TestDoctorFindsDamagedPages(t *testing.T) {
	t.Parallel()
	p := made(t)
	whole, err := os.ReadFile(p.store())
	if err != nil {
		t.Fatal(err)
	}
	page, found := os.Getpagesize(), 0
	for n := 2; n < 40; n++ {
		for _, with := range []string{"\x00", "\xff"} {
			b := []byte(string(whole))
			copy(b[n*page+16:(n+1)*page], strings.Repeat(with, page-16))
			if string(b) == string(whole) {
				continue
			}
			if err := os.WriteFile(p.store(), b, 0o600); err != nil {
				t.Fatal(err)
			}
			checks, code := p.diagnosis()
			for _, c := range checks {
				if strings.Contains(c.Detail, "\n") || strings.Contains(c.Detail, "goroutine") {
					t.Errorf("page %d: %+v", n, c)
				}
			}
			if code == 1 && !checks["records"].OK && strings.Contains(checks["records"].Detail, "the store is damaged") {
				found++
			}
		}
		if found > 3 {
			return
		}
	}
	t.Errorf("found damage %d times only", found)
}

// TestDoctorNeedsNoPermissionToWriteTheStore, and says who may run it.
func TestDoctorNeedsNoPermissionToWriteTheStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.unprivileged()
	c := p.start()
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if err := os.Chmod(p.store(), 0o400); err != nil {
		t.Fatal(err)
	}
	if checks, code := p.diagnosis(); code != 0 {
		t.Errorf("code %d, %+v", code, checks)
	}
	if err := os.Chmod(filepath.Join(p.data, "lock"), 0o400); err != nil {
		t.Fatal(err)
	}
	_, errs, code := p.run("doctor")
	if code != 1 || !strings.Contains(errs, "lock: permission denied; it belongs to uid ") || !strings.Contains(errs, "hint: chmod u+rw ") {
		t.Errorf("code %d, %s", code, errs)
	}
}

// TestDoctorExaminesAReadOnlyFileSystem, such as a snapshot: nothing can be locked there, and
// nothing can be changed.
func TestDoctorExaminesAReadOnlyFileSystem(t *testing.T) {
	terminaltest.NeedRoot(t)
	p := made(t)
	if err := syscall.Mount(p.data, p.data, "", syscall.MS_BIND, ""); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("with CI set this test must run: cannot mount here: ", err)
		}
		t.Skip("cannot mount here: ", err)
	}
	t.Cleanup(func() { syscall.Unmount(p.data, syscall.MNT_DETACH) })
	if err := syscall.Mount("", p.data, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if checks, code := p.diagnosis(); code != 0 || !checks["records"].OK {
		t.Errorf("code %d, %+v", code, checks)
	}
	p.writeKey("new.key", strings.Repeat("n", 32))
	if _, errs, code := p.run("doctor", "--new-master-key-file", "new.key"); code != 1 || !strings.Contains(errs, "read-only file system") {
		t.Errorf("code %d, %s", code, errs)
	}
}
