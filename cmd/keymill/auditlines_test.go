package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// auditLines returns the audit records in a log, one a line.
func auditLines(text string) string {
	var all strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, `{"seq":`) {
			all.WriteString(line)
		}
	}
	return all.String()
}

// TestTheAuditLogIsCopiedOverKillsAndStops: the lines of the file, and those on standard error after another setting,
// together are what "audit tail --json" prints. A file that cannot be written ends no start, and the warning says so.
//
// I19.
func TestTheAuditLogIsCopiedOverKillsAndStops(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := filepath.Join(p.dir, "audit.log")
	env := append(p.env(), "KEYMILL_AUDIT_LOG="+path)
	file := func() string {
		b, _ := os.ReadFile(path)
		return string(b)
	}
	wait := func(what string, has func() bool) {
		t.Helper()
		if !eventually(failsafe, has) {
			t.Fatalf("never: %s; the file is\n%s", what, file())
		}
	}

	c := p.startWith(env, p.serveArgs()...)
	p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
	wait("the audience is in the file", func() bool { return strings.Contains(file(), `"audience.add"`) })
	c.signal(syscall.SIGKILL)
	c.wait(failsafe)
	c = p.startWith(env, p.serveArgs()...) // lines of the moment before the kill are not repeated
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)

	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := p.runWith(env, p.serveArgs()...); code == 0 || !strings.Contains(errs, "is a directory") {
		t.Errorf("a directory: %d, %s", code, errs)
	}
	os.Remove(path)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil { // found by the server, after the start
		t.Fatal(err)
	}
	c = p.startWith(env, p.serveArgs()...)
	c.logged("audit records cannot be written to audit.log", 1)
	if status := c.ready(); status != 200 {
		t.Errorf("readyz: %d", status)
	}
	os.Remove(path)
	c.logged("audit records are written to audit.log again", 1)
	p.must(nil, "audience", "remove", "orders")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)

	c = p.startWith(append(p.env(), "KEYMILL_AUDIT_LOG=stderr", "KEYMILL_LOG_FORMAT=text"), p.serveArgs()...)
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)

	first, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	whole := p.must(nil, "audit", "tail", "--store", p.store(), "--all", "--json")
	got := strings.SplitAfter(string(first)+file()+auditLines(c.errs.String()), "\n")
	for n, line := range strings.SplitAfter(whole, "\n") {
		if n >= len(got) || got[n] != line {
			t.Fatalf("line %d of %d is not %s", n+1, len(got), line)
		}
	}
	if n := strings.Count(whole, `"server.stop"`); n != 3 || !strings.Contains(auditLines(c.errs.String()), `"server.stop"`) || strings.Contains(file(), "precious") {
		t.Errorf("%d stops in\n%s", n, whole)
	}
}

// TestTwoServersShareNoAuditFile: the second one serves, says once why its records wait, and writes them to a file of its own.
func TestTwoServersShareNoAuditFile(t *testing.T) {
	t.Parallel()
	first, second := newPlace(t), newPlace(t)
	path := filepath.Join(first.dir, "audit.log")
	setting := "KEYMILL_AUDIT_LOG=" + path
	first.startWith(append(first.env(), setting), first.serveArgs()...)
	if !eventually(failsafe, func() bool { b, _ := os.ReadFile(path); return strings.Contains(string(b), `"server.start"`) }) {
		t.Fatal("no record in the file")
	}
	c := second.startWith(append(second.env(), setting), second.serveArgs()...)
	c.logged("another server writes to "+path, 1)
	if status := c.ready(); status != 200 {
		t.Errorf("readyz: %d", status)
	}
	if b, _ := os.ReadFile(path); strings.Count(string(b), `"store.create"`) != 1 {
		t.Errorf("two chains: %s", b)
	}
}
