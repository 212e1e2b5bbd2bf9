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
	"strings"
	"syscall"
	"testing"

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

// TestAKillOfCompactLeavesAWholeStore at system calls all over its work: the old file, byte for byte, or the new one with
// all records. The next compact succeeds and leaves no other file. The order of the calls shows it for a loss of power
// too: no call writes to the old file, and the new one is synced before it gets the name.
func TestAKillOfCompactLeavesAWholeStore(t *testing.T) {
	t.Parallel()
	needRoot(t)
	strace := needStrace(t)
	p := newPlace(t)
	c := p.start()
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	p.freePages()
	whole, err := os.ReadFile(p.store())
	if err != nil {
		t.Fatal(err)
	}
	records := p.records()
	traced := func(more ...string) (string, error) {
		log := filepath.Join(t.TempDir(), "strace")
		args := []string{"-f", "-qq", "-y", "-o", log, "-e", "trace=" + compactCalls}
		for _, path := range []string{p.store(), p.store() + ".new-compact", p.data} {
			args = append(args, "-P", path)
		}
		cmd := exec.Command(strace, append(append(args, more...), p.binary, "compact", "--data", p.data)...)
		cmd.Env, cmd.Dir = p.env(), p.dir
		_, err := cmd.CombinedOutput()
		text, _ := os.ReadFile(log)
		return string(text), err
	}

	log, err := traced()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.store(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	order := ""
	for line := range strings.Lines(log) {
		call := regexp.MustCompile(`^\d+ +(\w+)\(`).FindStringSubmatch(line)
		switch isNew := strings.Contains(line, "keymill.db.new-compact"); {
		case call == nil:
		case strings.HasPrefix(call[1], "rename"):
			order += "R"
		case strings.HasSuffix(call[1], "sync"):
			order += map[bool]string{true: "S", false: "s"}[isNew]
		default:
			order += map[bool]string{true: "W", false: "w"}[isNew]
		}
	}
	if !regexp.MustCompile(`^s*[WS]*S+Rs$`).MatchString(order) || !strings.Contains(order, "WS") {
		t.Errorf("the calls are %s\n%s", order, log)
	}

	// The signal comes with the first write. A run that ends before the program has noticed is as good as one without.
	for _, signal := range []string{"SIGINT", "SIGTERM", "SIGHUP"} {
		if !eventually(failsafe, func() bool {
			if err := os.WriteFile(p.store(), whole, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := traced("-e", "inject=pwrite64:signal="+signal+":when=1", "-e", "inject=fsync:delay_enter=200000")
			now, _ := os.ReadFile(p.store())
			if _, left := os.Stat(p.store() + ".new-compact"); left == nil || err != nil && !bytes.Equal(now, whole) || !maps.Equal(p.records(), records) {
				t.Fatalf("%s: %v; the store was changed, or a file is left", signal, err)
			}
			return err != nil
		}) {
			t.Errorf("%s does not end it", signal)
		}
	}

	kills, kept := counts.Of("compact-kills"), 0
	for n := range kills {
		if err := os.WriteFile(p.store(), whole, 0o600); err != nil {
			t.Fatal(err)
		}
		when := 1 + n*(len(order)-1)/max(1, kills-1)
		traced("-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", compactCalls, when))
		left, err := os.ReadFile(p.store())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(left, whole) {
			kept++
		} else if !maps.Equal(p.records(), records) {
			t.Fatalf("a kill at call %d of %d left neither store", when, len(order))
		}
		p.must(nil, "compact")
		if !maps.Equal(p.records(), records) {
			t.Fatalf("after a kill at call %d, compact lost records", when)
		}
		if _, err := os.Stat(p.store() + ".new-compact"); err == nil {
			t.Errorf("after a kill at call %d, a file is left", when)
		}
	}
	t.Logf("counted: %d kills at %d calls; %d left the old store, %d the new one", kills, len(order), kept, kills-kept)
	if kept == 0 || kept == kills {
		t.Error("the test must see kills before and after the rename")
	}
}
