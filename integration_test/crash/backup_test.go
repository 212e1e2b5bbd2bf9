package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// TestABackupOrRestoreKilledAtAnyWriteLeavesTheOldStateOrTheNew: a file has its name only if it is a whole
// copy, and a directory has the store that it had, or the restored one. Both can be used, and the command
// succeeds when it is run again.
//
// strace kills the command at one of its calls that write, sync or name a file. It counts the calls of each
// thread, so a number may be reached a little later than in the run that counted them, or not at all.
func TestABackupOrRestoreKilledAtAnyWriteLeavesTheOldStateOrTheNew(t *testing.T) {
	if os.Geteuid() != 0 {
		inOwnNamespace(t) // only root may trace a program that is not dumpable
		return
	}
	k := newKiller(t)
	for _, tt := range []struct {
		name  string
		count int
		args  []string
		state func() (isNew bool)
	}{
		{"backup", counts.Of("backup-kills"), []string{"backup", "--overwrite", k.copies[1], "--data", k.srv.Data}, k.copyState},
		{"restore", counts.Of("restore-kills"), []string{"restore", "--replace", k.copies[0], "--config", k.srv.Config()}, k.storeState},
	} {
		if tt.name == "restore" {
			if err := k.srv.Stop(); err != nil {
				t.Fatal(err)
			}
			k.keep()
		}
		calls := k.calls(tt.args)
		killed, states := 0, map[bool]int{}
		for _, call := range spread(calls, tt.count) {
			if k.kill(call, tt.args) {
				killed++
			}
			states[tt.state()]++
			if t.Failed() {
				t.Fatalf("%s, killed at %s number %d", tt.name, call.name, call.number)
			}
		}
		t.Logf("counted: %s: %d calls, killed at %d; the old state %d times, the new one %d times, 0 others", tt.name, len(calls), killed, states[false], states[true])
		if killed < min(tt.count, len(calls))/2 || states[false] == 0 || states[true] == 0 {
			t.Errorf("%s: %d kills, states %v: the test must see both", tt.name, killed, states)
		}
	}
}

// A killer has a server with a copy of its store, and changes since then.
type killer struct {
	t      *testing.T
	srv    *server.Server
	strace string
	copies [2]string // files: of the store at its begin, and the one that is replaced
	kept   string    // the data directory as it is before each restore
}

func newKiller(t *testing.T) *killer {
	k := &killer{t: t, strace: needStrace(t), srv: server.Start(t, server.Options{Config: "keys: {algorithms: [EdDSA]}"})}
	k.copies = [2]string{filepath.Join(k.srv.Dir, "copy"), filepath.Join(k.srv.Dir, "replaced")}
	k.srv.Run(t, "audience", "add", "first", "--alg", "EdDSA")
	for _, file := range k.copies {
		k.srv.Run(t, "backup", file)
	}
	k.srv.Run(t, "audience", "add", "later", "--alg", "EdDSA")
	return k
}

// A call is the number-th call of one name in a run.
type call struct {
	name   string
	number int
}

const writingCalls = "write,pwrite64,fsync,fdatasync,ftruncate,fallocate,link,linkat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,chown,fchown,lchown,fchownat"

var callLine = regexp.MustCompile(`^\d+ +(\w+)\(`)

// command is run under strace.
func (k *killer) command(args []string, options ...string) *exec.Cmd {
	cmd := exec.CommandContext(k.t.Context(), k.strace, slices.Concat([]string{"-f", "-qq"}, options, []string{k.srv.Binary()}, args)...)
	cmd.Env = append(server.Environment(), "KEYMILL_MASTER_KEY_FILE="+filepath.Join(k.srv.Dir, "master.key"))
	return cmd
}

// calls runs the command to its end and returns its calls.
func (k *killer) calls(args []string) (all []call) {
	k.t.Helper()
	log := filepath.Join(k.t.TempDir(), "strace")
	if out, err := k.command(args, "-o", log, "-e", "trace="+writingCalls).CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		k.t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if m := callLine.FindStringSubmatch(line); m != nil {
			seen[m[1]]++
			all = append(all, call{m[1], seen[m[1]]})
		}
	}
	// Calls that are rare name files: they come first.
	slices.SortStableFunc(all, func(a, b call) int { return seen[a.name] - seen[b.name] })
	return all
}

// spread returns n of the calls: one third are the first, the others come evenly from the rest.
func spread(calls []call, n int) (some []call) {
	first := min(n/3, len(calls))
	some, rest := append(some, calls[:first]...), calls[first:]
	n = min(n-first, len(rest))
	for i := range n {
		some = append(some, rest[i*len(rest)/n])
	}
	return some
}

// kill runs the command until it makes the call. It reports whether it was killed.
func (k *killer) kill(at call, args []string) bool {
	k.t.Helper()
	k.reset()
	out, err := k.command(args, "-o", "/dev/null", "-e", "trace="+at.name, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", at.name, at.number)).CombinedOutput()
	if err != nil && strings.Contains(string(out), "keymill: ") {
		k.t.Errorf("%v: %v\n%s", args, err, out)
	}
	return err != nil
}

// keep keeps the data directory.
func (k *killer) keep() {
	k.t.Helper()
	k.kept = filepath.Join(k.srv.Dir, "kept")
	k.must("cp", "-a", k.srv.Data, k.kept)
}

// reset makes the state before the command again.
func (k *killer) reset() {
	k.t.Helper()
	if k.kept == "" {
		k.must("cp", k.copies[0], k.copies[1])
		return
	}
	k.must("rm", "-r", k.srv.Data)
	k.must("cp", "-a", k.kept, k.srv.Data)
}

func (k *killer) must(args ...string) {
	k.t.Helper()
	if out, err := exec.CommandContext(k.t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %v %s", args, err, out)
	}
}

// copyState checks the file that backup was to replace.
func (k *killer) copyState() (isNew bool) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), k.srv.Binary(), "backup", "--check", k.copies[1], "--config", k.srv.Config())
	cmd.Env = server.Environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		k.t.Errorf("check: %v\n%s", err, out)
	}
	old, errOld := os.ReadFile(k.copies[0])
	now, errNow := os.ReadFile(k.copies[1])
	if errOld != nil || errNow != nil {
		k.t.Error(errOld, errNow)
	}
	return string(old) != string(now)
}

// storeState starts the server on the directory, and restores once more.
func (k *killer) storeState() (isNew bool) {
	k.t.Helper()
	if err := k.srv.Start(); err != nil {
		k.t.Error(err)
		return false
	}
	audiences := k.srv.Run(k.t, "audience", "list")
	isNew = !strings.Contains(audiences, "later")
	restored := strings.Contains(k.srv.Run(k.t, "audit", "tail", "-n", "1000"), "store.restore")
	if !strings.Contains(audiences, "first") || restored != isNew {
		k.t.Errorf("restored %v, and the audiences are\n%s", restored, audiences)
	}
	if err := k.srv.Stop(); err != nil {
		k.t.Error(err)
	}
	cmd := exec.CommandContext(k.t.Context(), k.srv.Binary(), "restore", "--replace", k.copies[0], "--config", k.srv.Config())
	cmd.Env = server.Environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Errorf("restore again: %v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(k.srv.Data, "keymill.db.restore-*")); len(left) > 0 {
		k.t.Errorf("left %v", left)
	}
	return isNew
}

// TestAFullDiskEndsABackupAndARestore in one line: no file is left, the server serves, and the store is as it
// was.
func TestAFullDiskEndsABackupAndARestore(t *testing.T) {
	if os.Getenv(namespaced) == "" {
		inOwnNamespace(t)
		return
	}
	srv := server.Start(t, server.Options{Config: "keys: {algorithms: [EdDSA]}"})
	copied := filepath.Join(srv.Dir, "copy")
	srv.Run(t, "backup", copied)
	disk := smallDisk(t, filepath.Join(srv.Dir, "disk"))
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	data := filepath.Join(disk, "data")
	for _, args := range [][]string{
		{"backup", filepath.Join(disk, "backup")},
		{"restore", copied, "--config", srv.Config(), "--data", data},
	} {
		out, errs, err := srv.Verb(t.Context(), args...)
		if err == nil || out != "" || !strings.Contains(errs, "no space left on device") || strings.Count(errs, "\n") > 2 {
			t.Errorf("%v: %v\n%s%s", args, err, out, errs)
		}
	}
	if files, err := os.ReadDir(disk); err != nil || len(files) != 1 {
		t.Errorf("left %v (%v)", files, err)
	}
	if status, _, err := srv.Get(t.Context(), "/readyz"); err != nil || status != 200 {
		t.Errorf("readyz answers %d (%v)", status, err)
	}
	srv.Run(t, "audience", "add", "afterwards", "--alg", "EdDSA")
}
