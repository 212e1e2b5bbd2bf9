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

// endLimit only ends a test that hangs. A server whose store has failed ends by itself within 5 s.
const endLimit = 5 * time.Minute

// moreRuns is how often a failed sync is tried again until both of its outcomes were seen.
const moreRuns = 10

// TestAFailedSyncInARefreshIsSafeToRetry: the disk fails during the commit of a refresh, either at
// the sync of the data pages or at the sync of the meta page that makes them valid. The client gets
// 503, never success, and the server ends with an exit code (I11). The client's retry with the same
// token succeeds, whether the rotation was committed or not (I12).
func TestAFailedSyncInARefreshIsSafeToRetry(t *testing.T) {
	if os.Geteuid() != 0 {
		inOwnNamespace(t) // only root may trace the server, which is not dumpable
		return
	}
	strace := needStrace(t)
	runs, took, lost := counts.Of("failed-syncs"), 0, 0
	var longest time.Duration
	// strace counts the syncs of each thread. If two threads share a commit, the second sync of one of them can
	// be the first of a later commit. So which outcome a run has is known only after it.
	for n := 0; n < runs || (took == 0 || lost == 0) && n < runs+moreRuns; n++ {
		nth := 1 + n%2
		if n >= runs && took > 0 {
			nth = 1
		} else if n >= runs {
			nth = 2
		}
		srv := server.Start(t, server.Options{Config: server.WebConfig})
		srv.AddWeb(t)
		c := login(t, srv)
		awaitRecord(t, srv, "session.login", "") // else the chaining of its record could be the commit that fails
		longest = max(longest, refreshWithoutDisk(t, strace, srv, c, nth))
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		if from, _ := c.newest(); generations(t, srv)[c.family()] == from+1 {
			took++
		} else {
			lost++
		}
		rotate(t, srv, c, 3) // the retry, and two more
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
		if _, errs, err := srv.Verb(t.Context(), "doctor"); err != nil {
			t.Errorf("doctor: %v %s", err, errs)
		}
	}
	if took == 0 || lost == 0 {
		t.Errorf("of %d rotations %d were committed: the test must see both outcomes", took+lost, took)
	}
	if !t.Failed() {
		t.Logf("counted: %d refreshes met a failed sync and were answered 503; the server ended by itself after %v at most; "+
			"the rotation was committed in %d; 0 clients logged out", took+lost, longest.Round(time.Millisecond), took)
	}
}

// refreshWithoutDisk refreshes while the nth sync of each thread fails. It returns how long the server
// ran after that.
func refreshWithoutDisk(t *testing.T, strace string, srv *server.Server, c *chain, nth int) time.Duration {
	t.Helper()
	tracer := failSyncs(t, strace, srv, nth)
	defer tracer.Close()
	from, token := c.newest()
	a, err := srv.Refresh(t.Context(), server.Web, token)
	for err == nil && a.Status == http.StatusOK { // two threads made its syncs, so none made its second
		if err = c.note(from, a.Field("refresh_token")); err == nil {
			from, token = c.newest()
			a, err = srv.Refresh(t.Context(), server.Web, token)
		}
	}
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

// wantUnavailable requires 503 with Retry-After.
func wantUnavailable(t *testing.T, a server.Answer) {
	t.Helper()
	if a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("got %s with Retry-After %q, want 503 with a Retry-After", a, a.Header.Get("Retry-After"))
	}
}

// failSyncs makes the nth sync of every thread of srv fail. It returns when strace traces all threads,
// because it cannot make a sync of another thread fail.
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

// traced reports whether every thread of a process is traced.
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
			t.Fatal("strace is not installed, and with CI set this test must run")
		}
		t.Skip("strace is not installed")
	}
	return path
}
