package diagnose

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// script writes a program that runs instead of the check.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	// A process that another test starts in the meantime would inherit the open file, and Linux does not
	// execute a file that is open for writing (ETXTBSY). The lock keeps forks away.
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestACrashedCheckIsAFinding: one line, whatever became of the process.
//
// I28.
func TestACrashedCheckIsAFinding(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, program, want string }{
		{"no damage", `echo "percent 100"`, ""},
		{"damage", `echo "percent 3"; echo "damaged page 7: unreachable"; echo "damaged page 9: freed twice"`, "page 7: unreachable; page 9: freed twice"},
		{"a panic", `echo "[signal SIGBUS]" >&2; echo "panic: page 9 already freed" >&2; echo "goroutine 1 [running]:" >&2; exit 2`, "the store is damaged: the check of its pages ended with exit status 2: page 9 already freed"},
		{"a fatal error", `echo "runtime: goroutine stack exceeds 1000000000-byte limit" >&2; echo "fatal error: stack overflow" >&2; exit 2`, "exit status 2: stack overflow"},
		{"killed for its memory", `kill -9 $$`, "ended with signal: killed"},
		{"endless text", `i=0; while [ $i -lt 3000 ]; do echo "panic: this line is written again and again" >&2; i=$((i+1)); done; exit 2`, "again and again"},
		{"an endless line", `head -c 300000 /dev/zero | tr '\0' x; exit 2`, "ended with exit status 2"},
		{"damage and then a panic", `echo "damaged page 7"; exit 2`, "page 7"},
	} {
		d := &Doctor{Program: script(t, tt.program)}
		err := d.checkPages(t.Context(), "/nowhere/keymill.db", 0)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if tt.want == "" && err != nil || !strings.Contains(got, tt.want) || strings.Contains(got, "\n") || len(got) > 300 {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	d := &Doctor{Program: filepath.Join(t.TempDir(), "missing")}
	if err := d.checkPages(t.Context(), "", 0); err == nil || !strings.Contains(err.Error(), "cannot start the check") {
		t.Error(err)
	}
}

// TestTheCheckGetsNoSecret: no setting, no credential, and no file but its three streams.
func TestTheCheckGetsNoSecret(t *testing.T) {
	t.Setenv("KEYMILL_MASTER_KEY", "c2VjcmV0")
	t.Setenv("KEYMILL_MASTER_KEY_FILE", "/etc/keymill/master.key")
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
	open, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	d := &Doctor{Program: script(t, `
env | grep -e KEYMILL -e CREDENTIALS && echo "damaged environment"
[ "$*" = "check-pages /data/keymill.db" ] || echo "damaged arguments $*"
for f in /proc/self/fd/*; do case $(readlink $f) in pipe:*|/dev/null|*/program|/proc/*|"") ;; *) echo "damaged file $(readlink $f)";; esac; done`)}
	if err := d.checkPages(t.Context(), "/data/keymill.db", 0); err != nil {
		t.Error(err)
	}
}

// TestACheckThatDoesNotEndIsKilled, after a time that grows with the file, and when doctor is stopped.
func TestACheckThatDoesNotEndIsKilled(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(t.TempDir(), "begun")
	d := &Doctor{Program: script(t, `touch `+marker+`; exec sleep 3600`)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.checkPages(ctx, "", 0) }()
	for _, err := os.Stat(marker); err != nil; _, err = os.Stat(marker) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(5 * time.Minute):
		t.Fatal("the process goes on")
	}
	if small, big := pagesLimit(0), pagesLimit(4<<30); small < time.Minute || big < small+time.Hour {
		t.Errorf("the limits are %v and %v", small, big)
	}
}

// TestTheCheckEndsWithItsDoctor: a doctor that is killed closes the pipe.
func TestTheCheckEndsWithItsDoctor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go endWith(r, func() { close(ended) })
	select {
	case <-ended:
		t.Fatal("it ended before its doctor")
	default:
	}
	w.Close()
	<-ended
	d := &Doctor{Program: script(t, `[ -p /dev/stdin ] || echo "damaged: stdin is no pipe"`)}
	if err := d.checkPages(t.Context(), "", 0); err != nil {
		t.Error(err)
	}
}
