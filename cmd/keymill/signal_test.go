package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"keymill/issuer/api"
)

// configure writes the configuration of p in one step, as an editor does, and returns its path.
func (p *place) configure(lines string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, "keymill.yaml")
	text := "issuer: " + testIssuer + "\nlisten: 127.0.0.1:0\n" + lines
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// logged waits until the log has text n times.
func (c *child) logged(text string, n int) {
	c.t.Helper()
	if !eventually(failsafe, func() bool { return strings.Count(c.errs.String(), text) >= n || isClosed(c.ended) }) || isClosed(c.ended) {
		c.t.Fatalf("%v; not %d times in the log: %s", c.cmd.ProcessState, n, text)
	}
}

func (c *child) ready() int {
	c.t.Helper()
	resp, err := http.Get(c.url("/readyz"))
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestSIGHUPAppliesTheLogLevel in both directions, also to a level at which the line that says
// so would not be visible.
func TestSIGHUPAppliesTheLogLevel(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(p.env(), "serve", "--config", p.configure("log: {level: info}\n"))
	p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
	var billing api.Client
	p.must(&billing, "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--json")
	issued, refused := 0, 0
	for i, level := range []string{"debug", "error", "info", "warn", "debug"} {
		p.configure("log: {level: " + level + "}\n")
		c.signal(syscall.SIGHUP)
		c.logged(`msg="read the configuration again" log_level=`, i+1)
		if level == "debug" {
			issued++
		}
		if level == "debug" || level == "info" {
			refused++
		}
		if status, body, err := requestToken(http.DefaultClient, c.address, billing.ID, string(billing.Secret)); status != http.StatusOK {
			t.Fatalf("a token: %d, %v, %s", status, err, body)
		}
		c.refusals(1)
	}
	c.logged("client=unknown", refused)
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	log := c.errs.String()
	if n := strings.Count(log, `msg="token issued"`); n != issued {
		t.Errorf("%d debug lines, want %d", n, issued)
	}
	if n := strings.Count(log, "client=unknown"); n != refused {
		t.Errorf("%d lines of refusals, want %d", n, refused)
	}
	if strings.Contains(log, "need a restart") {
		t.Error("log.level alone needs no restart")
	}
}

// TestSIGHUPNamesTheSettingsThatNeedARestart, each time, and does not apply them.
func TestSIGHUPNamesTheSettingsThatNeedARestart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(append(p.env(), "KEYMILL_REFRESH_IDLE=7d"), "serve", "--config", p.configure("keys: {rotate_every: 2d}\n"))
	for _, tt := range []struct{ lines, want string }{
		{"keys: {rotate_every: 48h}\n", ""}, // the same in other words
		{"keys: {rotate_every: 3d}\n", "keys.rotate_every"},
		{"keys: {rotate_every: 2d, algorithms: [EdDSA]}\nlog: {format: json, level: debug}\n", `"keys.algorithms log.format"`},
		{"keys: {rotate_every: 2d}\nrefresh: {idle: 1d}\n", ""}, // the variable wins
		{"data: /elsewhere\nkeys: {rotate_every: 2d}\n", ""},
		{"http: {trusted_proxies: [10.0.0.0/8]}\nsimplejwt: {client: web}\n", `"keys.rotate_every simplejwt.client"`},
		{"http: {max_connections: 99}\nkeys: {rotate_every: 2d}\n", "http.max_connections"},
		{"webhook: {url: https://hooks.example, secret_file: /nowhere}\nkeys: {rotate_every: 2d}\n", `"webhook.url webhook.secret_file"`},
	} {
		before := c.errs.String()
		p.configure(tt.lines)
		c.signal(syscall.SIGHUP)
		c.logged(`msg="read the configuration again"`, strings.Count(before, "read the configuration again")+1)
		if tt.want != "" {
			line := `level=WARN msg="changed settings need a restart" settings=` + tt.want + "\n"
			c.logged(line, strings.Count(before, line)+1)
		}
	}
	if status := c.ready(); status != http.StatusOK {
		t.Errorf("readyz answers %d", status)
	}
	c.signal(syscall.SIGINT)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := strings.Count(c.errs.String(), "need a restart"); n != 5 {
		t.Errorf("%d lines name settings that need a restart, want 5", n)
	}
	var keys []api.Key
	again := p.startWith(append(p.env(), "KEYMILL_REFRESH_IDLE=7d"), "serve", "--config", p.configure(""))
	p.must(&keys, "key", "list", "--json")
	if !slices.ContainsFunc(keys, func(k api.Key) bool { return k.Alg == "RS256" }) {
		t.Error("the RS256 keys are gone")
	}
	again.signal(syscall.SIGTERM)
	again.wait(failsafe)
}

// TestAWrongConfigurationAtSIGHUPChangesNothing: the log says where the mistake is.
func TestAWrongConfigurationAtSIGHUPChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := p.configure("log: {level: warn}\n")
	c := p.startWith(append(p.env(), "KEYMILL_LOG_LEVEL=info"), "serve", "--config", path)
	for name, tt := range map[string]struct {
		change func() error
		want   string
	}{
		"unknown key":    {func() error { p.configure("lisen: x\n"); return nil }, regexp.QuoteMeta(path) + `:3: unknown setting`},
		"bad value":      {func() error { p.configure("log: {level: loud}\n"); return nil }, `:3: log.level: \\"loud\\" is not debug`},
		"contradiction":  {func() error { p.configure("keys: {rotate_every: 1s}\n"); return nil }, `:3: keys.rotate_every: keys.rotate_every \(1s\) must`},
		"not YAML":       {func() error { p.configure("{\n"); return nil }, `not YAML`},
		"no file":        {func() error { return os.Remove(path) }, `no such file`},
		"issuer missing": {func() error { return os.WriteFile(path, nil, 0o600) }, `issuer: the setting is required" hint="set it: `},
	} {
		before := c.errs.String()
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		c.signal(syscall.SIGHUP)
		const message = `level=ERROR msg="cannot read the configuration again; no setting changes" error=`
		c.logged(message, strings.Count(before, message)+1)
		if line := c.errs.String()[len(before):]; !regexp.MustCompile(tt.want).MatchString(line) {
			t.Errorf("%s: %s", name, line)
		}
		p.configure("")
		if status := c.ready(); status != http.StatusOK {
			t.Errorf("%s: readyz answers %d", name, status)
		}
	}
	// Reading a FIFO without a writer blocks, and that delays nothing else.
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGHUP)
	if status := c.ready(); status != http.StatusOK {
		t.Errorf("readyz answers %d", status)
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestTheLogSaysWhichSignalStoppedTheServer, and a server without --dev is not stopped by SIGHUP.
func TestTheLogSaysWhichSignalStoppedTheServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dev := filepath.Join(p.dir, "dev")
	for _, tt := range []struct {
		signal syscall.Signal
		name   string
		dev    bool
	}{
		{syscall.SIGINT, "SIGINT", false},
		{syscall.SIGTERM, "SIGTERM", false},
		{syscall.SIGINT, "SIGINT", true},
		{syscall.SIGTERM, "SIGTERM", true},
		{syscall.SIGHUP, "SIGHUP", true},
	} {
		t.Run(fmt.Sprintf("%s, --dev %v", tt.name, tt.dev), func(t *testing.T) {
			var c *child
			if tt.dev {
				c = p.startWith(environment(), "serve", "--dev", "--data", dev, "--listen", "127.0.0.1:0")
			} else {
				c = p.start()
				c.signal(syscall.SIGHUP)
				c.logged(`msg="read the configuration again" log_level=info`, 1)
			}
			c.signal(tt.signal)
			if code := c.wait(failsafe); code != 0 {
				t.Errorf("exit code %d (%v)", code, c.cmd.ProcessState)
			}
			log := c.errs.String()
			if strings.Count(log, "msg=stopping signal="+tt.name+"\n") != 1 || !strings.HasSuffix(log, "msg=stopped\n") {
				t.Errorf("the log:\n%s", log)
			}
		})
	}
}

// TestATrialServerUnderNohupIgnoresSIGHUP.
func TestATrialServerUnderNohupIgnoresSIGHUP(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	binary := p.binary
	p.binary = "/bin/sh"
	c := p.startWith(environment(), "-c", `trap "" HUP; exec "$@"`, "sh", binary, "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	c.signal(syscall.SIGHUP)
	if status := c.ready(); status != http.StatusOK {
		t.Errorf("readyz answers %d", status)
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 || !strings.Contains(c.errs.String(), "msg=stopping signal=SIGTERM\n") {
		t.Errorf("exit code %d", code)
	}
}

// TestASecondSignalEndsByThatSignal, after the lines that wait are written, and also if they
// cannot be written.
func TestASecondSignalEndsByThatSignal(t *testing.T) {
	t.Parallel()
	for _, signals := range [][2]syscall.Signal{
		{syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGTERM}, {syscall.SIGTERM, syscall.SIGINT},
	} {
		for _, stuck := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, stuck %v", signals, stuck), func(t *testing.T) {
				t.Parallel()
				p := newPlace(t)
				var c *child
				if stuck {
					_, w := fullPipe(t)
					c = p.startBroken(w, p.env(), "serve", "--data", p.data, "--issuer", testIssuer)
				} else {
					c = p.start()
				}
				slowRequest(t, c)
				c.signal(signals[0])
				if !eventually(failsafe, func() bool { _, err := http.Get(c.url("/healthz")); return err != nil }) {
					t.Fatal("the first signal did nothing")
				}
				c.signal(signals[1])
				c.wait(failsafe)
				if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != signals[1] {
					t.Errorf("it ended with %v", c.cmd.ProcessState)
				}
				if line := `msg="a second signal ends the process at once" signal=`; !stuck && !strings.Contains(c.errs.String(), line) {
					t.Errorf("the log:\n%s", c.errs)
				}
			})
		}
	}
}

// TestTheUnitRestartsAfterEveryEndButAStop, as systemd.service(5) defines on-failure, and it can
// reload. systemd accepts it, and the socket unit beside it.
func TestTheUnitRestartsAfterEveryEndButAStop(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, unit, _ := strings.Cut(string(page), "```ini\n")
	unit, _, _ = strings.Cut(unit, "```\n")
	// on-failure restarts after every end but exit code 0 and four signals. Two of these are stops.
	for _, line := range []string{"Restart=on-failure", "RestartForceExitStatus=SIGHUP SIGPIPE", "ExecReload=/bin/kill -HUP $MAINPID"} {
		if !slices.Contains(strings.Split(unit, "\n"), line) {
			t.Errorf("the unit in docs/operate.md has no line %s", line)
		}
	}
	if systemd, err := exec.LookPath("systemd-analyze"); err == nil {
		dir := t.TempDir()
		path, socket := filepath.Join(dir, "keymill.service"), filepath.Join(dir, "keymill.socket")
		text, err := os.ReadFile("../../scripts/deploy/keymill.socket")
		if err := errors.Join(err, os.WriteFile(socket, text, 0o644)); err != nil {
			t.Fatal(err)
		}
		unit = strings.ReplaceAll(unit, "/usr/local/bin/keymill", program(t))
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(systemd, "verify", path, socket).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
	}
}
