package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keymill/storage"
)

// Only the kernel can cause some faults. These tests run the test binary again as a child
// with a task in its environment, and the child writes what it observed to stdout.
const (
	childTask  = "KEYMILL_STORAGE_CHILD"
	childStore = "KEYMILL_STORAGE_PATH"
)

func TestMain(m *testing.M) {
	tasks := map[string]func(*Store) report{ // task → what the child does
		"write": childWrites,
		"limit": childHitsLimit,
		"tell":  childReports,
	}
	task := tasks[os.Getenv(childTask)]
	if task == nil {
		os.Exit(m.Run())
	}
	// strace counts system calls per thread. Open, which syncs once, and the commits run on
	// different threads, so that a test can choose a sync of the commits by its number.
	runtime.LockOSThread()
	var failures atomic.Int32
	b, err := Open(os.Getenv(childStore), Options{Failed: func(error) { failures.Add(1) }})
	r := report{Open: kind(err)}
	if err == nil {
		r = task(b)
		for b.Status().Failed != nil && failures.Load() == 0 { // Failed is called in another goroutine
			time.Sleep(10 * time.Millisecond)
		}
		b.Close()
	}
	r.Failures = int(failures.Load())
	json.NewEncoder(os.Stdout).Encode(r)
}

// A report is what a child observed: "" for success, else the kind of the error.
type report struct {
	Open     string
	Writes   []string // outcome of each Update
	View     string   // outcome of a View afterwards
	Early    bool     // a View showed a write whose Update did not return nil
	Failures int      // calls of Failed
}

func kind(err error) string {
	for _, known := range []error{storage.ErrNoSpace, storage.ErrUnknownOutcome, storage.ErrClosed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

const childWriteCount = 4

// childWrites puts k0, k1 … one after another while another goroutine reads.
func childWrites(b *Store) report {
	ctx := context.Background()
	var r report
	var seen [childWriteCount]bool
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			b.View(ctx, func(now storage.Reader) error {
				for i := range seen {
					if _, err := now.Get(fmt.Sprint("k", i)); err == nil {
						seen[i] = true
					}
				}
				return nil
			})
		}
	}()
	for i := range childWriteCount {
		r.Writes = append(r.Writes, kind(b.Update(ctx, func(tx storage.Tx) error {
			if i == 0 {
				runtime.LockOSThread()
			}
			return tx.Put(fmt.Sprint("k", i), make([]byte, 100))
		})))
	}
	r.View = kind(b.View(ctx, func(storage.Reader) error { return nil }))
	time.Sleep(20 * time.Millisecond) // for the reader
	close(stop)
	<-stopped
	for i, outcome := range r.Writes {
		r.Early = r.Early || outcome != "" && seen[i]
	}
	return r
}

// childReports puts k0, k1 … and prints a line as soon as each is acknowledged.
func childReports(b *Store) report {
	for i := range childWriteCount {
		err := b.Update(context.Background(), func(tx storage.Tx) error {
			if i == 0 {
				runtime.LockOSThread()
			}
			return tx.Put(fmt.Sprint("k", i), make([]byte, 100))
		})
		if err != nil {
			return report{Writes: []string{err.Error()}}
		}
		fmt.Println("acknowledged", i)
	}
	return report{}
}

// childHitsLimit fills the store up to a file size limit, and continues after the limit is
// raised.
func childHitsLimit(b *Store) report {
	ctx := context.Background()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return report{Open: err.Error()}
	}
	tight := syscall.Rlimit{Cur: uint64(b.Status().Bytes) + 1<<20, Max: was.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		return report{Open: err.Error()}
	}
	fill := func(i int) string {
		return kind(b.Update(ctx, func(tx storage.Tx) error {
			return tx.Put(fmt.Sprint("k", i), make([]byte, storage.MaxValueBytes))
		}))
	}
	i, outcome := 0, ""
	for ; outcome == "" && i < 1000; i++ {
		outcome = fill(i)
	}
	r := report{Writes: []string{outcome}}
	r.View = kind(b.View(ctx, func(now storage.Reader) error {
		if _, err := now.Get(fmt.Sprint("k", i-1)); !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("a refused write exists: %v", err)
		}
		return nil
	}))
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		return report{Open: err.Error()}
	}
	r.Writes = append(r.Writes, fill(0), kind(b.Check(ctx)))
	return r
}

// run runs a task on the store at path and returns its output. wrap is a command that runs
// the child, for example strace.
func run(t *testing.T, task, path string, wrap ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	words := append(wrap, os.Args[0])
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), childTask+"="+task, childStore+"="+path)
	return cmd.Output()
}

// child runs a task that must succeed, and returns its report.
func child(t *testing.T, task, path string, wrap ...string) report {
	t.Helper()
	out, err := run(t, task, path, wrap...)
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("the child printed %q: %v", out, err)
	}
	return r
}

// TestASecondProcessIsRefused with one clear line, and the first one continues.
func TestASecondProcessIsRefused(t *testing.T) {
	b := openTest(t)
	if got := child(t, "write", b.path).Open; got != "store "+b.path+" is in use by another process" {
		t.Errorf("the second process got %q", got)
	}
	if err := b.Update(t.Context(), putOne("a")); err != nil {
		t.Error(err)
	}
}

// TestALimitOnFilesIsNoSpace makes a truncate fail.
func TestALimitOnFilesIsNoSpace(t *testing.T) {
	path := newStore(t)
	r := child(t, "limit", path)
	want := fmt.Sprint([]string{storage.ErrNoSpace.Error(), "", ""})
	if got := fmt.Sprint(r.Writes); r.Open != "" || got != want || r.View != "" || r.Failures != 0 {
		t.Errorf("the child observed %+v", r)
	}
}

func newStore(t *testing.T) string {
	t.Helper()
	b := openTest(t)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return b.path
}

// strace returns a command that injects a fault into a child.
func strace(t *testing.T, call, fault string) []string {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("strace is not installed, and these tests must not be skipped in CI")
		}
		t.Skip("strace is not installed")
	}
	return []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + call, "-e", "inject=" + call + ":" + fault}
}

// TestAFailedSyncStopsTheStore, of the data pages and of the meta page. The delay keeps the
// commit visible to bbolt's readers long enough for a View to begin.
func TestAFailedSyncStopsTheStore(t *testing.T) {
	for _, tt := range []struct {
		name  string
		nth   int // two syncs per commit
		wrote bool
	}{
		{"data pages", 5, false},
		{"meta page", 6, true}, // the page cache holds it, the disk perhaps not
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := newStore(t)
			r := child(t, "write", path, strace(t, "fdatasync",
				fmt.Sprintf("error=EIO:delay_enter=100000:when=%d", tt.nth))...)
			unknown := storage.ErrUnknownOutcome.Error()
			want := report{Writes: []string{"", "", unknown, unknown}, View: unknown, Failures: 1}
			if fmt.Sprint(r) != fmt.Sprint(want) {
				t.Errorf("the child observed %+v, want %+v", r, want)
			}
			wantReopened(t, path, map[string]bool{"k0": true, "k1": true, "k2": tt.wrote, "k3": false})
		})
	}
}

// TestOpeningSyncs: Open makes durable what a killed process wrote and did not sync, before
// anything reads it, and also the name of a new file.
func TestOpeningSyncs(t *testing.T) {
	data := child(t, "write", newStore(t), strace(t, "fdatasync", "error=EIO:when=1")...).Open
	if !strings.Contains(data, "open store") || !strings.Contains(data, "sync") {
		t.Errorf("a failed sync of the file: %q", data)
	}
	// The first sync is of the growing file, the second of its directory.
	name := child(t, "write", t.TempDir()+"/keymill.db", strace(t, "fsync", "error=EIO:when=2")...).Open
	if !strings.Contains(name, "create store") || !strings.Contains(name, "sync") {
		t.Errorf("a failed sync of the directory: %q", name)
	}
}

// TestAFullDiskRefusesOneGroup, whichever write of a commit fails.
func TestAFullDiskRefusesOneGroup(t *testing.T) {
	refused := 0
	for nth := 1; nth <= 9; nth += 2 {
		path := newStore(t)
		r := child(t, "write", path, strace(t, "pwrite64", fmt.Sprintf("error=ENOSPC:when=%d", nth))...)
		wrote := map[string]bool{}
		for i, outcome := range r.Writes {
			wrote[fmt.Sprint("k", i)] = outcome == ""
			if outcome == storage.ErrNoSpace.Error() {
				refused++
			} else if outcome != "" {
				t.Errorf("write %d, update %d: %s", nth, i, outcome)
			}
		}
		if r.Open != "" || r.View != "" || r.Early || r.Failures != 0 {
			t.Errorf("write %d: the child observed %+v", nth, r)
		}
		wantReopened(t, path, wrote)
	}
	if refused != 5 {
		t.Errorf("%d updates were refused in 5 runs, want one in each", refused)
	}
}

// TestAKilledProcessLosesNothingAcknowledged, whichever write, sync or link it is killed
// in, also while it creates the store.
func TestAKilledProcessLosesNothingAcknowledged(t *testing.T) {
	killed := 0
	for call, times := range map[string]int{"pwrite64": 12, "fdatasync": 8, "fsync": 2, "linkat": 1, "unlinkat": 1} {
		for nth := 1; nth <= times; nth++ {
			path := t.TempDir() + "/keymill.db"
			out, err := run(t, "tell", path, strace(t, call, fmt.Sprintf("signal=SIGKILL:when=%d", nth))...)
			if err != nil {
				killed++
			}
			acknowledged := strings.Count(string(out), "acknowledged")
			b, err := Open(path, Options{})
			if err != nil {
				t.Errorf("killed at %s %d: %v", call, nth, err)
				continue
			}
			for i := range childWriteCount {
				// The write under way may exist or not. Those after it never began.
				there := has(t, b, fmt.Sprint("k", i))
				if i < acknowledged && !there || i > acknowledged && there {
					t.Errorf("killed at %s %d with %d acknowledged: k%d exists: %v", call, nth, acknowledged, i, there)
				}
			}
			if err := b.Check(t.Context()); err != nil {
				t.Errorf("killed at %s %d: %v", call, nth, err)
			}
			b.Close()
		}
	}
	if killed < 20 {
		t.Errorf("%d processes were killed, want at least 20", killed)
	}
}

func wantReopened(t *testing.T, path string, want map[string]bool) {
	t.Helper()
	b, err := Open(path, Options{})
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	defer b.Close()
	for key, there := range want {
		if has(t, b, key) != there {
			t.Errorf("after reopening %s exists: %v, want %v", key, !there, there)
		}
	}
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAStoreSurvivesAFullDisk on a file system that is really full: reads continue, and
// writes continue once there is space.
func TestAStoreSurvivesAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("cannot mount a tmpfs: %v", err)
		}
		t.Skipf("cannot mount a tmpfs (%v); other tests cover a failing truncate and failing writes", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	ballast := dir + "/ballast"
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir+"/keymill.db", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	write := func(i int) error {
		return b.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(fmt.Sprint("k", i), make([]byte, 8<<10)) })
	}
	var written, refused []int
	for i := range 200 {
		switch err := write(i); {
		case err == nil:
			written = append(written, i)
		case errors.Is(err, storage.ErrNoSpace):
			refused = append(refused, i)
		default:
			t.Fatalf("update %d: %v", i, err)
		}
	}
	if len(written) == 0 || len(refused) < 100 {
		t.Errorf("%d updates written and %d refused", len(written), len(refused))
	}
	for wrote, updates := range map[bool][]int{true: written, false: refused} {
		for _, i := range updates {
			if has(t, b, fmt.Sprint("k", i)) != wrote {
				t.Errorf("k%d exists: %v, acknowledged: %v", i, !wrote, wrote)
			}
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := write(refused[0]); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
