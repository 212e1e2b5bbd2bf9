package crash

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// importedUsers makes the end of a master key change take several transactions.
const importedUsers = 300

// TestAMasterKeyChangeCutAtAnyWriteLosesNothing cuts a master key change after each write. The store then
// opens with exactly one of the two keys and serves all that was acknowledged, and its mark fits. The
// other key is refused in one line.
//
// No process is killed. strace records every write of doctor, which changes the master key, and of the
// next start, which ends the change. The test rebuilds store and mark from the first writes, in their order, as
// a kill -9 between two writes leaves it. A kill inside one write and a loss of power, which can reorder
// writes that were not synced, are not covered. The ci tier cuts at each write of doctor and at some of
// the next start.
//
// I26.
func TestAMasterKeyChangeCutAtAnyWriteLosesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		inOwnNamespace(t) // only root may trace the server, which is not dumpable
		return
	}
	strace := needStrace(t)
	w := live(t, importedUsers)
	c := &keyChange{lived: w, strace: strace, keys: [2]string{filepath.Join(w.srv.Dir, "master.key"), filepath.Join(t.TempDir(), "new.key")}}
	random := make([]byte, 32)
	rand.Read(random)
	if err := os.WriteFile(c.keys[1], []byte(base64.StdEncoding.EncodeToString(random)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.judge = newJudge(t, w, w.srv.Binary())
	writes, changing := c.record(t)
	cuts := cutsOf(counts.Of("master-key-cuts"), changing, len(writes))
	opened := [2]int{}
	for _, after := range cuts {
		store, mark := c.after(c.final.store, storeName, writes[:after]), c.after(c.final.mark, markName, writes[:after])
		opened[c.check(t, after, store, mark)]++
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("counted: %d writes, cut after %d of them; the old key opened %d stores, the new one %d; 0 with both or neither, 0 lost",
		len(writes), len(cuts), opened[0], opened[1])
	if opened[0] == 0 || opened[1] == 0 {
		t.Error("the test must see cuts before and after the change")
	}
}

// cutsOf returns after how many writes to cut, at most n: after each of those that change the key, then
// evenly over the rest.
func cutsOf(n, changing, all int) (cuts []int) {
	for after := 0; after <= changing && len(cuts) < n; after++ {
		cuts = append(cuts, after)
	}
	rest := all - changing
	more := min(n-len(cuts), rest)
	for i := 1; i <= more; i++ {
		cuts = append(cuts, changing+i*rest/more)
	}
	return cuts
}

// A keyChange is a change of the master key of a store.
type keyChange struct {
	*lived
	judge  *judge
	strace string
	keys   [2]string // files of the old and the new master key
}

// A fileWrite is one call that changed the store or its mark.
type fileWrite struct {
	file   string // its name
	offset int64
	data   []byte
	size   int64 // of a truncate; data is nil then
}

// record changes the master key and starts the server once. It returns every write to the store, and how
// many of them changed the master key.
func (c *keyChange) record(t *testing.T) (writes []fileWrite, changing int) {
	t.Helper()
	if err := c.judge.place(&mutant{store: c.final.store, mark: c.final.mark}); err != nil {
		t.Fatal(err)
	}
	writes = c.trace(t, c.keys[0], nil, "doctor", "--new-master-key-file", c.keys[1])
	changing = len(writes)
	writes = append(writes, c.trace(t, c.keys[1], func() {
		await(t, "the server", func() bool {
			resp, err := http.Get("http://" + c.judge.address + "/healthz")
			if err == nil {
				resp.Body.Close()
			}
			return err == nil
		})
	}, "serve", "--listen", c.judge.address)...)
	t.Logf("doctor wrote %d times, the next start and its stop %d times", changing, len(writes)-changing)
	return writes, changing
}

// trace runs a command on the store under strace. If ready is given, the command is stopped once it returns.
func (c *keyChange) trace(t *testing.T, key string, ready func(), args ...string) []fileWrite {
	t.Helper()
	log := filepath.Join(t.TempDir(), "strace")
	data := filepath.Join(c.judge.dir, "data")
	command := append([]string{
		"-f", "-qq", "-y", "-o", log, "-xx", "-s", "10000000", "-e", "trace=pwrite64,ftruncate,fallocate",
		"-P", filepath.Join(data, storeName), "-P", filepath.Join(data, markName), c.judge.binary,
	}, args...)
	cmd := exec.Command(c.strace, append(command, "--config", c.srv.Config(), "--data", data)...)
	out := new(output)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(server.Environment(), "KEYMILL_MASTER_KEY_FILE="+key), out, out
	process, err := server.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	if ready != nil {
		ready()
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		stop := exec.Command("kill", strings.Fields(string(children))...)
		if text, err := stop.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, text)
		}
	}
	select {
	case <-process.Done():
	case <-time.After(hangLimit):
		t.Fatalf("%v hangs: %s", args, out)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return parseWrites(t, string(text))
}

var (
	pwriteLine   = regexp.MustCompile(`pwrite64\(\d+<([^>]*)>, "((?:\\x[0-9a-f]{2})*)", (\d+), (\d+)`)
	truncateLine = regexp.MustCompile(`ftruncate\(\d+<([^>]*)>, (\d+)`)
)

// parseWrites reads the output of strace.
func parseWrites(t *testing.T, text string) (writes []fileWrite) {
	t.Helper()
	for line := range strings.Lines(text) {
		if m := pwriteLine.FindStringSubmatch(line); m != nil {
			data, err := hex.DecodeString(strings.ReplaceAll(m[2], `\x`, ""))
			offset, _ := strconv.ParseInt(m[4], 10, 64)
			if err != nil || fmt.Sprint(len(data)) != m[3] {
				t.Fatalf("strace printed %d bytes of %s (%v)", len(data), m[3], err)
			}
			writes = append(writes, fileWrite{file: tracedName(m[1]), offset: offset, data: data})
		} else if m := truncateLine.FindStringSubmatch(line); m != nil {
			size, _ := strconv.ParseInt(m[2], 10, 64)
			writes = append(writes, fileWrite{file: tracedName(m[1]), size: size})
		} else if strings.Contains(line, "fallocate(") || strings.Contains(line, "pwrite64(") {
			t.Fatalf("a write that the test does not read: %.200s", line)
		}
	}
	return writes
}

// tracedName returns the name of a file in the output of strace, which writes paths in hex too.
func tracedName(path string) string {
	if b, err := hex.DecodeString(strings.ReplaceAll(path, `\x`, "")); err == nil {
		path = string(b)
	}
	return filepath.Base(path)
}

// after returns the file of that name after the first writes.
func (c *keyChange) after(before []byte, name string, writes []fileWrite) []byte {
	file := slices.Clone(before)
	for _, w := range writes {
		if w.file != name {
			continue
		}
		end := w.size
		if w.data != nil {
			end = max(int64(len(file)), w.offset+int64(len(w.data)))
		}
		if grow := end - int64(len(file)); grow > 0 {
			file = append(file, make([]byte, grow)...)
		}
		file = file[:end]
		copy(file[min(w.offset, end):], w.data)
	}
	return file
}

// check starts a server with each key and returns which one opened the store.
func (c *keyChange) check(t *testing.T, after int, store, mark []byte) (opened int) {
	t.Helper()
	opened = -1
	for n, key := range c.keys {
		c.judge.key = key
		m := &mutant{store: store, mark: mark, change: true}
		v := c.judge.judge(m)
		switch {
		case v.outcome == whole && opened < 0:
			opened = n
		case v.outcome == refused && strings.Contains(v.why, "the master key does not open this store"):
		default:
			t.Errorf("cut after write %d, key %d: %s", after, n, v.why)
		}
	}
	if opened < 0 {
		t.Errorf("cut after write %d: no key opens the store", after)
		return 0
	}
	return opened
}
