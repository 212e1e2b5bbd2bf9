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
	"time"

	"keymill/integration_test/server"
)

// namespaced is set in the child process that runs in a mount namespace of its own. Its mounts end
// with it.
const namespaced = "KEYMILL_TEST_NAMESPACE"

// TestAFullDiskStopsChangesAndNothingElse (I16): on a full disk every change is refused with an
// error that says to try again later. Tokens and the key set work as before. When there is space
// again, changes work without a restart.
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
			t.Error("a large change succeeded on a full disk")
		} else if !refusedAsFull(srv, errs) {
			t.Errorf("the change failed for another reason than a full disk: %q", errs)
		}
		verifyOne(t, srv, client)
	}

	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := addLarge(t, srv, "space-again"); err != nil {
		t.Errorf("with space again a change fails: %v %s", err, errs)
	}
	verifyOne(t, srv, srv.AddClient(t, "after", "orders"))
	if srv.PID() != pid {
		t.Error("the server was restarted")
	}
	for _, name := range append(acknowledged, "space-again") {
		srv.Run(t, "audience", "show", name)
	}
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
	if _, errs, err := srv.Verb(t.Context(), "doctor"); err != nil {
		t.Errorf("doctor: %v %s", err, errs)
	}
}

// smallDisk mounts a file system of 6 MB at path until the test ends.
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

// fillUntilRefused fills the disk with a file. Then it makes changes until the store has used its
// free pages too and refuses one. It returns the names of the changes that succeeded.
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
	// The file has holes. A change that needs one is refused, and the next one may find free pages.
	for n, refused := 0, 0; n < most; n++ {
		name := fmt.Sprintf("large-%d", n)
		if _, errs, err := addLarge(t, srv, name); err != nil {
			if !refusedAsFull(srv, errs) {
				t.Fatalf("the change failed for another reason than a full disk: %q", errs)
			}
			if refused++; refused < 30 {
				continue
			}
			t.Logf("the full disk refused %d changes in a row after %d changes", refused, len(acknowledged))
			return acknowledged
		}
		refused = 0
		acknowledged = append(acknowledged, name)
	}
	t.Fatalf("%d large changes succeeded on a full disk", most)
	return nil
}

// refusedAsFull reports whether the verb's error says to try again and the server's log says why.
func refusedAsFull(srv *server.Server, stderr string) bool {
	// The server writes its log beside the answer.
	for end := time.Now().Add(time.Minute); !strings.Contains(srv.Log(), "no space left on device"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return strings.Contains(stderr, "try again later")
}

// addLarge adds an audience of about 3 KiB. After a few of them the file needs new pages.
func addLarge(t *testing.T, srv *server.Server, name string) (stdout, stderr string, err error) {
	args := []string{"audience", "add", name, "--alg", "EdDSA"}
	for n := range 50 {
		args = append(args, "--scope", fmt.Sprintf("%s%03d", strings.Repeat("s", 61), n))
	}
	return srv.Verb(t.Context(), args...)
}

// verifyOne gets a token and verifies it with the published key set.
func verifyOne(t *testing.T, srv *server.Server, c server.Client) {
	t.Helper()
	token, err := srv.Token(t.Context(), c, "orders")
	if err != nil {
		t.Errorf("a token on a full disk: %v", err)
		return
	}
	keys, err := fetchKeys(t.Context(), srv)
	if err != nil {
		t.Error(err)
		return
	}
	if err := keys.verify(token); err != nil {
		t.Error(err)
	}
}

// inOwnNamespace runs this test again in a mount namespace of its own, where a mount affects no other
// process.
func inOwnNamespace(t *testing.T) {
	t.Helper()
	unshare := []string{"--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", slices.Concat(unshare, []string{"true"})...).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("cannot create a mount namespace: %v %s", err, out)
		}
		t.Skipf("cannot create a mount namespace: %v %s", err, out)
	}
	again := []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	cmd := exec.Command("unshare", slices.Concat(unshare, again)...)
	cmd.Env = append(os.Environ(), namespaced+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("the test failed in its own namespace: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if _, counted, ok := strings.Cut(line, "counted: "); ok {
			t.Logf("counted: %s", strings.TrimSpace(counted))
		}
	}
}
