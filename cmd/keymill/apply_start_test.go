package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/issuer/api"
)

const appliedAtStart = "audiences: [{name: orders, scopes: [read]}]\nclients: [{id: web, public: true, grants: [refresh_token], audiences: [orders]}]\n"

// TestFilesAreAppliedAtTheStart before the server says that it serves, and again after SIGHUP. Another start
// changes nothing, and nothing is ever removed.
func TestFilesAreAppliedAtTheStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	file := p.writeKey("apply.yaml", appliedAtStart)
	env := append(p.env(), "KEYMILL_APPLY="+file, "KEYMILL_SIMPLEJWT_CLIENT=web")
	c := p.startWith(env, p.serveArgs()...)
	p.must(nil, "client", "show", "web")
	if log := c.errs.String(); strings.Contains(log, "cannot log in") || strings.Index(log, "applied the files") > strings.Index(log, "msg=serving") {
		t.Errorf("the log is\n%s", log)
	}
	c.stop()

	c = p.startWith(env, p.serveArgs()...)
	if log := c.errs.String(); strings.Contains(log, "applied the files") || strings.Contains(log, "msg=administration") {
		t.Errorf("the second start has changed something:\n%s", log)
	}
	if audit := p.must(nil, "audit", "tail", "-n", "1000"); strings.Count(audit, "apply.mark") != 2 || !strings.Contains(audit, "  client.add       apply ") && !strings.Contains(audit, " apply ") {
		t.Errorf("the audit log is\n%s", audit)
	}

	p.writeKey("apply.yaml", strings.Replace(appliedAtStart, "clients:", "verifiers: [{name: shop}]\n#", 1))
	c.signal(syscall.SIGHUP)
	c.logged("applied the files", 1)
	p.must(nil, "verifier", "show", "shop")
	p.must(nil, "client", "show", "web")

	p.writeKey("apply.yaml", "audiences: [{name: orders, alg: RS256}]")
	c.signal(syscall.SIGHUP)
	c.logged("cannot apply the files; the server goes on", 1)
	p.writeKey("apply.yaml", "audiences: [")
	c.signal(syscall.SIGHUP)
	c.logged("cannot apply the files; the server goes on", 2)
	p.must(nil, "audience", "show", "orders")
}

// TestAPlanThatFailsEndsTheStart with one line, and the keys stay what they are.
func TestAPlanThatFailsEndsTheStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	var before, after []api.Key
	p.must(&before, "key", "list", "--json")
	c.stop()
	file := p.writeKey("apply.yaml", "audiences: [{name: orders}]\nusers: [{user: missing, claims: {}}]")
	_, errs, code := p.runWith(append(p.env(), "KEYMILL_APPLY="+file), p.serveArgs()...)
	want := "keymill: apply: " + file + ":2: user missing does not exist; apply changes the claims of users and adds none: run \"keymill user add\" first\n"
	if code != 1 || !strings.HasSuffix(errs, want) {
		t.Errorf("code %d, %s", code, errs)
	}
	_, errs, code = p.runWith(append(p.env(), "KEYMILL_APPLY="+filepath.Join(p.dir, "none")), p.serveArgs()...)
	if code != 1 || !strings.HasPrefix(errs, "keymill: apply: ") || !strings.Contains(errs, "no such file") {
		t.Errorf("code %d, %s", code, errs)
	}
	p.start()
	p.must(&after, "key", "list", "--json")
	if len(before) == 0 || len(after) < len(before) || after[0].KID != before[0].KID {
		t.Errorf("the keys were %v and are %v", before, after)
	}
	if list := p.must(nil, "audience", "list"); strings.Contains(list, "orders") {
		t.Errorf("a plan that failed has added something:\n%s", list)
	}
}
