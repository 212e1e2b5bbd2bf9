package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"keymill/integration_test/server"
)

// namespaced marks the child that may mount: its mounts vanish with it.
const namespaced = "KEYMILL_TEST_NAMESPACE"

// TestAFullDiskStopsChangesAndNothingElse (I16): without room every change is refused
// and may be tried again; tokens and the key set go on as before; once there is
// room again, changes work without a restart.
func TestAFullDiskStopsChangesAndNothingElse(t *testing.T) {
	if os.Getenv(namespaced) == "" {
		inOwnNamespace(t)
		return
	}
	dir := t.TempDir()
	disk := smallDisk(t, filepath.Join(dir, "data"))
	srv := server.Start(t, server.Options{Dir: dir})
	srv.Run(t, "audience", "add", "orders", "--alg", "EdDSA")
	client := srv.AddClient(t, "billing", "orders")
	pid := srv.PID()

	acknowledged := fillUntilRefused(t, srv, disk)
	for n := range 20 {
		if _, errs, err := addLarge(t, srv, fmt.Sprintf("late-%d", n)); err == nil {
			t.Error("a large change went through on a full disk")
		} else if !fullNow(srv, errs) {
			t.Errorf("refused, but not for want of space: %q", errs)
		}
		judgeOne(t, srv, client)
	}

	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := addLarge(t, srv, "room-again"); err != nil {
		t.Errorf("there is room again, but: %v %s", err, errs)
	}
	judgeOne(t, srv, srv.AddClient(t, "after", "orders"))
	if srv.PID() != pid {
		t.Error("that took a restart")
	}
	for _, name := range append(acknowledged, "room-again") {
		srv.Run(t, "audience", "show", name)
	}
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	if _, errs, err := srv.Verb(t.Context(), "doctor"); err != nil {
		t.Errorf("doctor: %v %s", err, errs)
	}
}

// smallDisk mounts a file system of its own at path for the length of the test.
func smallDisk(t *testing.T, path string) string {
	t.Helper()
	err := os.Mkdir(path, 0o700)
	if err == nil {
		err = syscall.Mount("tmpfs", path, "tmpfs", 0, "size=6m,mode=0700")
	}
	if err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
	return path
}

// fillUntilRefused takes all the room and then makes changes until the pages that the
// store had left are used up as well. It returns the changes that went through.
func fillUntilRefused(t *testing.T, srv *server.Server, disk string) (acknowledged []string) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	const most = 400
	for n := range most {
		name := fmt.Sprintf("large-%d", n)
		if _, errs, err := addLarge(t, srv, name); err != nil {
			if !fullNow(srv, errs) {
				t.Fatalf("refused, but not for want of space: %q", errs)
			}
			t.Logf("refused after %d changes on a full disk", n)
			return acknowledged
		}
		acknowledged = append(acknowledged, name)
	}
	t.Fatalf("%d large changes went through on a full disk", most)
	return nil
}

// fullNow: the refusal invites to try again, and the log says what is wrong.
func fullNow(srv *server.Server, stderr string) bool {
	return strings.Contains(stderr, "try again later") && strings.Contains(srv.Log(), "no space left on device")
}

// addLarge adds an audience of about 3 KiB; a few of them need pages that were never written.
func addLarge(t *testing.T, srv *server.Server, name string) (stdout, stderr string, err error) {
	args := []string{"audience", "add", name, "--alg", "EdDSA"}
	for n := range 50 {
		args = append(args, "--scope", fmt.Sprintf("%s%03d", strings.Repeat("s", 61), n))
	}
	return srv.Verb(t.Context(), args...)
}

func judgeOne(t *testing.T, srv *server.Server, c server.Client) {
	t.Helper()
	token, err := srv.Token(t.Context(), c, "orders")
	if err != nil {
		t.Errorf("no token: %v", err)
		return
	}
	j, err := newJudge(t.Context(), srv)
	if err != nil {
		t.Error(err)
		return
	}
	if err := j.verify(token); err != nil {
		t.Error(err)
	}
}

// inOwnNamespace runs this test again where it may mount without anybody noticing.
func inOwnNamespace(t *testing.T) {
	t.Helper()
	unshare := []string{"--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", slices.Concat(unshare, []string{"true"})...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no mount namespace: %v %s", err, out)
		}
		t.Skipf("no mount namespace: %v %s", err, out)
	}
	again := []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	cmd := exec.Command("unshare", slices.Concat(unshare, again)...)
	cmd.Env = append(os.Environ(), namespaced+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in its own namespace: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if _, counted, ok := strings.Cut(line, "counted: "); ok {
			t.Logf("counted: %s", strings.TrimSpace(counted))
		}
	}
}
