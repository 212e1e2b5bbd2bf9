package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/integration_test/counts"
	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/bolt"
)

// freePages makes the store of a stopped server larger by megabytes of free pages.
func (p *place) freePages() {
	p.t.Helper()
	s, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	for _, change := range []func(storage.Tx, string) error{
		func(tx storage.Tx, key string) error { return tx.Put(key, make([]byte, 60_000)) }, storage.Tx.Delete,
	} {
		for first := range 10 {
			if err := s.Update(p.t.Context(), func(tx storage.Tx) error {
				for n := range 8 {
					if err := change(tx, fmt.Sprintf("zz/%d-%d", first, n)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// records returns all records of the store of a stopped server.
func (p *place) records() map[string]string {
	p.t.Helper()
	s, err := bolt.OpenReadOnly(p.store())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	all := map[string]string{}
	if err := s.View(p.t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = string(e.Value)
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	return all
}

// TestAServerGoesOnWithACompactedStore: with its clients, its keys and its mark. An older copy is refused as before.
// A running server and a damaged store are refused, and nothing changes.
//
// I25.
func TestAServerGoesOnWithACompactedStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
	var billing api.Client
	p.must(&billing, "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--json")
	if _, errs, code := p.run("compact"); code != 1 || !strings.Contains(errs, "is in use by process ") || !strings.Contains(errs, "hint: stop the server first") {
		t.Errorf("while it serves: %d, %s", code, errs)
	}
	stop := func() {
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
	}
	stop()
	p.freePages()
	older, err := os.ReadFile(p.store())
	if err != nil {
		t.Fatal(err)
	}
	c = p.start()
	stop()
	before := p.records()

	damaged := bytes.ReplaceAll(older, []byte("audit/log/"), []byte("audit/gol/"))
	now, _ := os.ReadFile(p.store())
	os.WriteFile(p.store(), damaged[:len(damaged)-len(damaged)%4096], 0o600)
	if _, errs, code := p.run("compact"); code != 1 || !strings.Contains(errs, "keymill.db was not compacted: ") || !strings.Contains(errs, "hint: keymill doctor --data ") {
		t.Errorf("a damaged store: %d, %s", code, errs)
	}
	if left, _ := os.ReadFile(p.store()); !bytes.Equal(left, damaged[:len(damaged)-len(damaged)%4096]) {
		t.Error("a damaged store was changed")
	}
	os.WriteFile(p.store(), now, 0o600)

	var r struct {
		Records       int
		Before, After int64
	}
	out := p.must(nil, "compact", "--json")
	for name, to := range map[string]any{"records": &r.Records, "bytes_before": &r.Before, "bytes_after": &r.After} {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(out), &members); err != nil || json.Unmarshal(members[name], to) != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if r.Records != len(before) || r.Before < 4<<20 || r.After > 1<<20 || !maps.Equal(p.records(), before) {
		t.Errorf("%+v of %d records", r, len(before))
	}
	if out := p.must(nil, "compact"); !strings.HasPrefix(out, "nothing to gain: ") {
		t.Errorf("again: %s", out)
	}
	p.must(nil, "doctor")

	c = p.start()
	if status, body, err := requestToken(http.DefaultClient, c.address, billing.ID, string(billing.Secret)); status != http.StatusOK {
		t.Errorf("a token: %d, %v, %s", status, err, body)
	}
	stop()
	if err := os.WriteFile(p.store(), older, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := p.run(p.serveArgs()...); code != 1 || !strings.Contains(errs, "the store is older than the one that was served last") {
		t.Errorf("an older copy: %d, %s", code, errs)
	}
}

// compactCalls are the system calls that change a file or make a change durable.
const compactCalls = "pwrite64,write,ftruncate,fsync,fdatasync,fchown,fchmod,rename,renameat,renameat2"

// A compactor has a stopped server whose store has free pages.
type compactor struct {
	*place
	strace  string
	whole   []byte // the file of the store
	records map[string]string
}

func newCompactor(t *testing.T) *compactor {
	terminaltest.NeedRoot(t)
	c := &compactor{place: newPlace(t), strace: needStrace(t)}
	serving := c.start()
	serving.signal(syscall.SIGTERM)
	serving.wait(failsafe)
	c.freePages()
	var err error
	if c.whole, err = os.ReadFile(c.store()); err != nil {
		t.Fatal(err)
	}
	c.records = c.place.records()
	return c
}

// newFile is the file that compact writes.
func (c *compactor) newFile() string { return c.store() + ".new-compact" }

// command compacts the whole store under strace, which sees the calls for the store, the new file and their directory.
func (c *compactor) command(log string, options ...string) *exec.Cmd {
	c.t.Helper()
	if err := os.WriteFile(c.store(), c.whole, 0o600); err != nil {
		c.t.Fatal(err)
	}
	args := []string{"-f", "-qq", "-y", "-o", log}
	for _, path := range []string{c.store(), c.newFile(), c.data} {
		args = append(args, "-P", path)
	}
	// The shell becomes the program: its number is known before.
	args = append(append(args, options...), "sh", "-c", `echo $$ >pid; exec "$@"`, "sh", c.binary, "compact", "--data", c.data)
	cmd := exec.Command(c.strace, args...)
	cmd.Env, cmd.Dir = c.env(), c.dir
	return cmd
}

// hasNewFile reports whether a new file was left.
func (c *compactor) hasNewFile() bool {
	_, err := os.Stat(c.newFile())
	return err == nil
}

// wantStore requires the old file, byte for byte, or a new one with all records. It reports whether it is the old one.
func (c *compactor) wantStore(after string) (isOld bool) {
	c.t.Helper()
	now, err := os.ReadFile(c.store())
	if err != nil {
		c.t.Fatal(err)
	}
	isOld = bytes.Equal(now, c.whole)
	if !isOld && !maps.Equal(c.place.records(), c.records) {
		c.t.Fatalf("%s left neither store", after)
	}
	return isOld
}

// A compactCall is the number-th call of one name in a run.
type compactCall struct {
	name   string
	number int
}

// calls compacts the store and returns the calls in their order, also as letters: W writes to the new file, S syncs
// it, w and s are for another file, R is the rename.
func (c *compactor) calls() (all []compactCall, order string) {
	c.t.Helper()
	log := filepath.Join(c.t.TempDir(), "strace")
	if out, err := c.command(log, "-e", "trace="+compactCalls).CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		c.t.Fatal(err)
	}
	seen := map[string]int{}
	for line := range strings.Lines(string(text)) {
		call := regexp.MustCompile(`^\d+ +(\w+)\(`).FindStringSubmatch(line)
		if call == nil {
			continue
		}
		letter := "w"
		switch {
		case strings.HasPrefix(call[1], "rename"):
			letter = "R"
		case strings.HasSuffix(call[1], "sync"):
			letter = "s"
		}
		if strings.Contains(line, "keymill.db.new-compact") {
			letter = strings.ToUpper(letter)
		}
		seen[call[1]]++
		all = append(all, compactCall{call[1], seen[call[1]]})
		order += letter
	}
	return all, order
}

// TestASignalEndsCompact: the old store stays, and no other file.
func TestASignalEndsCompact(t *testing.T) {
	t.Parallel()
	c := newCompactor(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		// A run that ends before the program has noticed the signal is as good as one without.
		if !eventually(failsafe, func() bool {
			cmd := c.command(os.DevNull, "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=200000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			begun := eventually(failsafe, c.hasNewFile)
			pid, err := os.ReadFile(filepath.Join(c.dir, "pid"))
			if n, _ := strconv.Atoi(strings.TrimSpace(string(pid))); begun && n > 0 {
				syscall.Kill(n, signal) // strace waits for the program, so no other process has the number
			} else {
				t.Errorf("compact did not begin: %q, %v", pid, err)
			}
			ended := cmd.Wait() != nil
			if isOld := c.wantStore(signal.String()); ended && !isOld || c.hasNewFile() {
				t.Fatalf("%s: ended %v; the store was changed, or a file is left", signal, ended)
			}
			return ended
		}) {
			t.Errorf("%s does not end it", signal)
		}
	}
}

// TestAKillOfCompactLeavesAWholeStore at system calls all over its work: the old file, byte for byte, or the new one with
// all records. The next compact succeeds and leaves no other file. The order of the calls shows it for a loss of power
// too: no call writes to the old file, and the new one is synced before it gets the name.
func TestAKillOfCompactLeavesAWholeStore(t *testing.T) {
	t.Parallel()
	c := newCompactor(t)
	calls, order := c.calls()
	if !regexp.MustCompile(`^s*[WS]*S+Rs$`).MatchString(order) || !strings.Contains(order, "WS") {
		t.Fatalf("the calls are %s", order)
	}
	kills, kept := min(counts.Of("compact-kills"), len(calls)), 0
	for n := range kills {
		at := calls[n*(len(calls)-1)/max(1, kills-1)]
		after := fmt.Sprintf("a kill at %s %d", at.name, at.number)
		// strace counts the calls of each thread. A run whose calls were made by several may end without the kill.
		if !eventually(failsafe, func() bool {
			err := c.command(os.DevNull, "-e", "trace="+at.name, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", at.name, at.number)).Run()
			return err != nil
		}) {
			t.Errorf("%s never comes", after)
			continue
		}
		if c.wantStore(after) {
			kept++
		}
		c.must(nil, "compact")
		if !maps.Equal(c.place.records(), c.records) {
			t.Fatalf("after %s, compact lost records", after)
		}
		if c.hasNewFile() {
			t.Errorf("after %s, a file is left", after)
		}
	}
	t.Logf("counted: %d kills at %d calls (%s); %d left the old store, %d the new one", kills, len(calls), order, kept, kills-kept)
	if kept == 0 || kept == kills {
		t.Error("the test must see kills before and after the rename")
	}
}
