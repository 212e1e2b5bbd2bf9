package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
	"keymill/storage/audit"
)

// journal returns the audit records of the server itself, in order, once there are n.
func (p *place) journal(n int) (records []audit.Record) {
	p.t.Helper()
	if !eventually(failsafe, func() bool {
		records = nil
		for line := range strings.Lines(p.must(nil, "audit", "tail", "-n", "1000", "--json")) {
			var r audit.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				p.t.Fatal(err)
			}
			if strings.HasPrefix(r.Action, "server.") && r.Action != "server.settings" {
				records = append(records, r)
			}
		}
		return len(records) >= n
	}) {
		p.t.Fatalf("%d records, want %d: %v", len(records), n, records)
	}
	return records
}

// TestStartAndStopAreAudited, with the version and the reason. After a kill there is a start
// without a stop.
func TestStartAndStopAreAudited(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var pids []string
	ends := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT}
	for _, end := range ends {
		c := p.start()
		pids = append(pids, strconv.Itoa(c.cmd.Process.Pid))
		if end == syscall.SIGKILL {
			p.journal(3)
		}
		c.signal(end)
		c.wait(failsafe)
	}
	c := p.start()
	pids = append(pids, strconv.Itoa(c.cmd.Process.Pid))
	got := p.journal(6)
	want := []struct{ action, pid, reason string }{
		{"server.start", pids[0], ""}, {"server.stop", pids[0], "SIGTERM"},
		{"server.start", pids[1], ""},
		{"server.start", pids[2], ""}, {"server.stop", pids[2], "SIGINT"},
		{"server.start", pids[3], ""},
	}
	for i, w := range want {
		r := got[i]
		if r.Action != w.action || r.By != "system" || r.Detail["pid"] != w.pid || r.Detail["reason"] != w.reason || r.Detail["version"] != release {
			t.Errorf("record %d is %+v, want %+v", i, r, w)
		}
	}
	if got[5].Detail["listen"] != c.address || got[5].Detail["uid"] != strconv.Itoa(os.Getuid()) || got[5].Detail["dev"] != "false" {
		t.Errorf("the last start is %+v", got[5])
	}
}

// TestEffectiveSettingsAreAudited at each start, wherever they come from, and never a secret.
//
// R104.
func TestEffectiveSettingsAreAudited(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.writeKey("webhook.secret", goodHookSecret)
	env := append(p.hookEnv("https://hooks.example/secret-path?key=secret-query"), "KEYMILL_REFRESH_GRACE=7s")
	c := p.startWith(env, "serve", "--data", p.data, "--config", p.configure("keys: {rotate_every: 240h}\n"))
	p.journal(1)
	settings, all := map[string]string{}, p.must(nil, "audit", "tail", "-n", "1000", "--json")
	for line := range strings.Lines(all) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		for key, value := range r.Detail {
			if r.Action == "server.settings" {
				settings[key] = value
			}
		}
	}
	for _, s := range config.Settings() {
		if _, ok := settings[s.Key]; !ok {
			t.Errorf("%s is missing", s.Key)
		}
	}
	for key, want := range map[string]string{
		"refresh.grace": "7s", "keys.rotate_every": "10d", "issuer": testIssuer, "data": p.data, "log.level": "info",
		"webhook.url": "https://hooks.example/...", "master_key_file": filepath.Join(p.dir, "master.key"), "session.client": "",
	} {
		if settings[key] != want {
			t.Errorf("%s is %q, want %q", key, settings[key], want)
		}
	}
	for _, secret := range []string{testKey("k"), strings.TrimSpace(goodHookSecret), "secret-path", "secret-query"} {
		if strings.Contains(all, secret) {
			t.Errorf("the audit log holds %s", secret)
		}
	}

	p.configure("keys: {rotate_every: 3d}\nlog: {level: debug}\nhttp: {trusted_proxies: [10.0.0.0/8]}\n")
	c.signal(syscall.SIGHUP)
	c.logged("need a restart", 1)
	last := p.journal(2)[1]
	if last.Action != "server.reload" || last.Detail["log.level"] != "debug" || last.Detail["need_restart"] != "keys.rotate_every" ||
		last.Detail["changed"] != "http.trusted_proxies log.level" {
		t.Errorf("after SIGHUP: %+v", last)
	}
}

// TestATrialServerIsAuditedToo, and its SIGHUP is a stop. No record has its secrets.
func TestATrialServerIsAuditedToo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startDev()
	c.signal(syscall.SIGHUP)
	c.wait(failsafe)
	c = p.startDev()
	got := p.journal(3)
	if got[0].Detail["dev"] != "true" || got[1].Action != "server.stop" || got[1].Detail["reason"] != "SIGHUP" || got[2].Action != "server.start" {
		t.Errorf("%+v", got)
	}
	all := p.must(nil, "audit", "tail", "-n", "1000", "--json")
	made, err := serve.ReadCredentials(filepath.Join(p.data, "dev-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	var secrets []string
	for _, client := range made.Clients {
		secrets = append(secrets, client.Secret)
	}
	for _, user := range made.Users {
		secrets = append(secrets, user.Password)
	}
	secrets = slices.DeleteFunc(secrets, func(s string) bool { return s == "" })
	if len(secrets) < 3 {
		t.Fatalf("only %d secrets", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(all, secret) {
			t.Error("the audit log holds a secret")
		}
	}
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
}
