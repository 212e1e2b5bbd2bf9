package crash

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// endLimit bounds a hang: a server whose store has failed ends by itself, within 5 s.
const endLimit = 5 * time.Minute

// TestAFailedSyncInARefreshIsSafeToRetry: the disk fails while a refresh is made durable,
// at its pages or at the meta page that makes them count. The client hears 503, never
// success (I11); the server ends with an exit code; the client's one retry with the same
// token is let in, whether the rotation took place or not (I12).
func TestAFailedSyncInARefreshIsSafeToRetry(t *testing.T) {
	if os.Geteuid() != 0 {
		inOwnNamespace(t) // the server lets nobody but root look into its memory, or trace it
		return
	}
	strace := needStrace(t)
	runs, took := counts.Of("failed-syncs"), 0
	var longest time.Duration
	for n := range runs {
		srv := server.Start(t, server.Options{Config: server.WebConfig})
		srv.AddWeb(t)
		c := login(t, srv)
		awaitRecord(t, srv, "session.login", "") // else its record joins the chain in the middle
		longest = max(longest, refreshWithoutDisk(t, strace, srv, c, 1+n%2))
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		if standing(t, srv)[c.family()] == 1 {
			took++
		}
		rotate(t, srv, c, 3) // the retry, and on from there
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
		if _, errs, err := srv.Verb(t.Context(), "doctor"); err != nil {
			t.Errorf("doctor: %v %s", err, errs)
		}
	}
	if took == 0 || took == runs {
		t.Errorf("of %d rotations %d took place: both sides have to be seen", runs, took)
	}
	if !t.Failed() {
		t.Logf("counted: %d refreshes met a failed sync and were answered 503; the server ended by itself after %v at most; "+
			"the rotation had taken place in %d; 0 clients logged out", runs, longest.Round(time.Millisecond), took)
	}
}

// refreshWithoutDisk refreshes while the nth sync of each thread fails, and returns how long
// the server lived on.
func refreshWithoutDisk(t *testing.T, strace string, srv *server.Server, c *chain, nth int) time.Duration {
	t.Helper()
	tracer := failSyncs(t, strace, srv, nth)
	defer tracer.Close()
	_, token := c.newest()
	a, err := srv.Refresh(t.Context(), server.Web, token)
	if err != nil {
		t.Fatal(err)
	}
	failed := time.Now()
	wantUnavailable(t, a)
	if err := srv.AwaitEnd(endLimit); err != nil {
		t.Error(err)
	}
	return time.Since(failed)
}

// wantUnavailable: not now, and when to come back.
func wantUnavailable(t *testing.T, a server.Answer) {
	t.Helper()
	if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("got %s with Retry-After %q, want 503 and a time", a, a.Header.Get("Retry-After"))
	}
}

// failSyncs lets the nth sync of every thread of srv fail from now on. It returns once
// strace holds them all, since what it does not hold does not fail.
func failSyncs(t *testing.T, strace string, srv *server.Server, nth int) *server.Companion {
	t.Helper()
	cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
		"-e", fmt.Sprintf("inject=fdatasync:error=EIO:when=%d", nth), "-p", fmt.Sprint(srv.PID()))
	cmd.Stderr = io.Discard
	tracer, err := server.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracer.Close() })
	await(t, "strace to attach to every thread", func() bool { return traced(srv.PID()) })
	return tracer
}

// traced tells whether every thread of a process has a tracer.
func traced(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(status), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

func needStrace(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is missing, and this test is not to be skipped here")
		}
		t.Skip("strace is not installed")
	}
	return path
}
