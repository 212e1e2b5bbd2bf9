package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keymill/issuer/api"
)

// TestAValueThatLooksLikeAListIsQuestioned: a flag is repeated for several values.
func TestAValueThatLooksLikeAListIsQuestioned(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	p.must(nil, "audience", "add", "orders", "--scope", "read", "--scope", "write")
	p.must(nil, "audience", "add", "a,b")
	for line, hint := range map[string]string{
		"audience add x --scope a,b":                                        "--scope a --scope b",
		"audience add x --scope c --scope a,b,c":                            "--scope a --scope b --scope c",
		"audience set orders --scope read,write":                            "--scope read --scope write",
		"audience set orders --scope read,":                                 "did you mean --scope read",
		"client add x --audience orders --scope read,write":                 "--scope read --scope write",
		"client add x --audience orders,b":                                  "--audience orders --audience b",
		"client add x --introspect orders,b":                                "--introspect orders --introspect b",
		"client add x --grant client_credentials,refresh_token":             "--grant client_credentials --grant refresh_token",
		"client add x --origin https://a.example,https://b.example":         "--origin https://a.example --origin https://b.example",
		"token --client x --issuer http://127.0.0.1:1 --scope a,b":          "--scope a --scope b",
		"verify a.b.c --issuer http://127.0.0.1:1 --audience x --scope a,b": "--scope a --scope b",
	} {
		_, errs, code := p.run(strings.Fields(line)...)
		if said, got, _ := strings.Cut(errs, "\n  hint: "); code == 0 || !strings.Contains(got, "did you mean") || !strings.Contains(got, hint) || strings.Count(said, "\n") > 0 {
			t.Errorf("%s: code %d, %q", line, code, errs)
		}
	}
	// The name of an audience may have a comma.
	p.must(nil, "client", "add", "comma", "--grant", "client_credentials", "--audience", "a,b")
}

// TestAClientThatCanDoNothingIsWarnedAbout, on stderr, with --json too.
func TestAClientThatCanDoNothingIsWarnedAbout(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--config", p.configure("simplejwt: {client: web}\n"))
	p.must(nil, "audience", "add", "orders")
	for _, tt := range []struct{ line, warning string }{
		{"client add a", "it is allowed no grant"},
		{"client add b --audience orders", "it is allowed no grant"},
		{"client add c --grant client_credentials", "it has no audience"},
		{"client add d --public --grant refresh_token --json", "it has no audience"},
		{"client add e --public --grant refresh_token --audience orders", "users log in only through"},
		{"client add web --public --grant refresh_token --audience orders", ""},
		{"client add f --grant client_credentials --audience orders --json", ""},
		{"client add g --introspect orders", ""},
		{"client set f --grant=", "it is allowed no grant"},
		{"client disable f", ""},
		{"client enable f --json", "it is allowed no grant"},
		{"client set f --grant client_credentials --audience=", "it has no audience"},
		{"client show a", ""},
	} {
		out, errs, code := p.run(strings.Fields(tt.line)...)
		if code != 0 || out == "" || strings.Contains(tt.line, "--json") && !json.Valid([]byte(out)) {
			t.Errorf("%s: code %d, %q", tt.line, code, out)
		}
		if tt.warning == "" && errs != "" || tt.warning != "" &&
			(!strings.HasPrefix(errs, "keymill: warning: client ") || !strings.Contains(errs, tt.warning) || strings.Count(errs, "\n") != 1) {
			t.Errorf("%s: %q, want %q", tt.line, errs, tt.warning)
		}
	}
}

// TestAnIdleTimeBeyondTheConfiguredEndIsRefused: the absolute end would silently shorten it.
func TestAnIdleTimeBeyondTheConfiguredEndIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start("--config", p.configure("refresh: {idle: 7d, absolute: 30d}\n"))
	for _, tt := range []struct{ line, says string }{
		{"client add a --idle 100d", "idle is 100d and must be at most refresh.absolute (30d)"},
		{"client add b --idle 31d", "refresh.absolute (30d)"},
		{"client add c --idle 30d", ""},
		{"client add d --idle 100d --absolute 100d", ""},
		{"client add e --idle 100d --absolute 99d", "must be at most absolute"},
		{"client set c --idle 40d", "refresh.absolute (30d)"},
		{"client set d --absolute=", "refresh.absolute (30d)"},
		{"client set c --idle 40d --absolute 40d", ""},
		{"client add f --absolute 2d", ""}, // a shorter end than refresh.idle is a wish
	} {
		_, errs, code := p.run(strings.Fields(tt.line)...)
		if (code == 0) != (tt.says == "") || !strings.Contains(errs, tt.says) {
			t.Errorf("%s: code %d, %q", tt.line, code, errs)
		}
	}
	p.must(nil, "client", "add", "g", "--idle", "20d")
	c.signal(unix.SIGTERM)
	c.wait(failsafe)
	p.start("--config", p.configure("refresh: {idle: 7d, absolute: 10d}\n"))
	p.must(nil, "client", "disable", "g") // although its idle time no longer fits
}

// TestEveryCommandSaysWhatItDid, and has --json. The help has the commands.
func TestEveryCommandSaysWhatItDid(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	p.must(nil, "audience", "add", "orders")
	for _, tt := range []struct{ line, says, json string }{
		{"audience remove a", "removed audience a", `"audience": "a"`},
		{"client remove a", "removed client a", `"client_id": "a"`},
		{"user remove a", "removed user a", `"user": "a"`},
		{"user logout alice", "ended every session of alice", `"username": "alice"`},
		{"session revoke --client shop", "ended all sessions of client shop", `"client": "shop"`},
		{"session revoke --all", "ended all sessions of all users", `"all": true`},
		{"client disable shop", "disabled", `"disabled": true`},
		{"user disable alice", "disabled", `"disabled": true`},
	} {
		for _, asJSON := range []bool{false, true} {
			p.run("audience", "add", "a")
			p.run("client", "add", "a", "--introspect", "orders")
			p.run("client", "add", "shop", "--introspect", "orders")
			p.run("user", "add", "a", "--no-password", "--id", "5")
			p.run("user", "add", "alice", "--no-password")
			if strings.HasPrefix(tt.line, "audience") {
				p.run("client", "remove", "a")
			} else if strings.HasPrefix(tt.line, "client remove") {
				p.run("user", "remove", "a")
			}
			args, want := strings.Fields(tt.line), tt.says
			if asJSON {
				args, want = append(args, "--json"), tt.json
			}
			out, errs, code := p.run(args...)
			if code != 0 || errs != "" || !strings.Contains(out, want) || json.Valid([]byte(out)) != asJSON {
				t.Errorf("%v: code %d, %q, %q", args, code, out, errs)
			}
		}
	}
	for _, group := range newRoot().Commands() {
		for _, cmd := range append(group.Commands(), group) {
			if !cmd.Hidden && !cmd.HasSubCommands() && cmd.Name() != "serve" && cmd.Name() != "console" && cmd.Flags().Lookup("json") == nil {
				t.Errorf("%s has no --json", cmd.CommandPath())
			}
		}
	}
}

// TestSessionWhyExitsLikeVerify: 0 accepted, 1 refused, 2 nothing was asked, 3 no one could be asked.
func TestSessionWhyExitsLikeVerify(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	token := p.loggedIn(t)
	for _, tt := range []struct {
		in, line, out string
		code          int
	}{
		{token, "session why -", "token:", 0}, {token, "session why --token-stdin --json", `"good": true`, 0},
		{"kmr_x", "session why -", "malformed", 1}, {"kmr_x", "session why - --json", `"good": false`, 1},
		{token + "x", "session why -", "malformed", 1}, {"", "session why kmr_" + strings.Repeat("a", 60), "token:", 1},
		{"", "session why -", "", 2}, {"\n", "session why --token-stdin --json", "", 2}, {strings.Repeat("x", 20000), "session why -", "", 2},
		{token, "session why - --data " + t.TempDir(), "", 3}, {token, "session why - --json --data " + t.TempDir(), "", 3},
	} {
		cmd := exec.Command(program(t), strings.Fields(tt.line)...)
		var out, errs strings.Builder
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.env(), p.dir, strings.NewReader(tt.in), &out, &errs
		cmd.Run()
		code := cmd.ProcessState.ExitCode()
		if code != tt.code || !strings.Contains(out.String(), tt.out) || (tt.code > 1) != (out.Len() == 0) {
			t.Errorf("%s: code %d, want %d; %q, %q", tt.line, code, tt.code, out.String(), errs.String())
		}
		if silent := code == 0 || code == 1 && strings.Contains(tt.line, "--json"); silent != (errs.Len() == 0) || strings.Contains(errs.String(), token) {
			t.Errorf("%s: code %d, stderr %q", tt.line, code, errs.String())
		}
	}
}

// TestARemovalThatEndsLoginsAsks, on a terminal. Without one it refuses.
func TestARemovalThatEndsLoginsAsks(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.loggedIn(t)
	exists := func(client string) bool {
		_, _, code := p.run("client", "show", client)
		return code == 0
	}
	// web is the client of a login endpoint, and has a live session.
	out, errs, code := p.run("client", "remove", "web")
	if code != 1 || out != "" || !strings.Contains(errs, "users log in through (login endpoint simplejwt)") || !strings.Contains(errs, "has live sessions") ||
		!strings.HasSuffix(errs, "\n  hint: keymill client remove web --yes\n") || !exists("web") {
		t.Errorf("without a terminal: code %d, %q, %q", code, out, errs)
	}
	p.must(nil, "client", "add", "unused", "--introspect", "shop")
	p.must(nil, "client", "remove", "unused")
	if _, _, code := p.run("client", "remove", "absent"); code != 1 {
		t.Errorf("a client that does not exist: code %d", code)
	}
	for _, answer := range []string{"\n", "n\n", "no\n", "x\n", "\x04"} {
		if out, code := p.onTerminal(answer, "client", "remove", "web"); code != 1 || !strings.Contains(out, "Continue? [y/N]") || !exists("web") {
			t.Errorf("answer %q: code %d, %q", answer, code, out)
		}
	}
	if out, code := p.onTerminal("y\n", "client", "remove", "web"); code != 0 || !strings.Contains(out, "removed client web") || exists("web") {
		t.Errorf("yes: code %d, %q", code, out)
	}
	p.must(nil, "client", "add", "web", "--public", "--grant", "refresh_token", "--audience", "shop")
	if p.must(nil, "client", "remove", "web", "--yes", "--json"); exists("web") {
		t.Error("--yes did not remove the client")
	}
}

// TestRemovingAUserAndEndingAllSessionsAsk, on a terminal. Without one they do not ask.
func TestRemovingAUserAndEndingAllSessionsAsk(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.loggedIn(t)
	live := func() bool { return strings.Contains(p.must(nil, "session", "list"), "live") }
	for _, command := range [][]string{{"session", "revoke", "--all"}, {"user", "remove", "alice"}} {
		for _, answer := range []string{"\n", "n\n", "x\n", "\x04"} {
			out, code := p.onTerminal(answer, command...)
			if code != 1 || !strings.Contains(out, "Continue? [y/N]") || !strings.HasSuffix(out, "keymill: nothing was changed\n") || !live() {
				t.Errorf("%s, answer %q: code %d, %q", command, answer, code, out)
			}
		}
	}
	if out, code := p.onTerminal("y\n", "session", "revoke", "--all"); code != 0 || !strings.Contains(out, "every user has to log in again") || live() {
		t.Errorf("yes: code %d, %q", code, out)
	}
	for _, command := range [][]string{{"session", "revoke", "--all", "--yes"}, {"user", "remove", "alice", "--yes"}, {"session", "revoke", "--client", "web"}} {
		if out, code := p.onTerminal("", command...); code != 0 || strings.Contains(out, "Continue?") {
			t.Errorf("%s: code %d, %q", command, code, out)
		}
	}
	p.must(nil, "user", "add", "bob", "--no-password")
	p.must(nil, "user", "remove", "bob") // without a terminal
	p.must(nil, "session", "revoke", "--all")
}

// onTerminal runs a command on a terminal where someone types.
func (p *place) onTerminal(typed string, args ...string) (out string, code int) {
	p.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		p.t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		p.t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer slave.Close()
	var text strings.Builder
	cmd := exec.Command(program(p.t), args...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.env(), p.dir, slave, &text, &text
	if _, err := master.WriteString(typed); err != nil {
		p.t.Fatal(err)
	}
	cmd.Run()
	return text.String(), cmd.ProcessState.ExitCode()
}

// loggedIn starts a server with the audience shop, the client web and the user alice, and returns the
// refresh token of a login.
func (p *place) loggedIn(t *testing.T) string {
	t.Helper()
	c := p.start("--config", p.configure("simplejwt: {client: web}\n"))
	p.withAlice(t)
	status, body := login(t, c, "alice", "correct horse battery")
	var pair struct{ Refresh string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil || status != 200 {
		t.Fatalf("login: %d %s", status, body)
	}
	return pair.Refresh
}

// TestInstantsHaveOnePrecision in JSON and in tables.
func TestInstantsHaveOnePrecision(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.loggedIn(t)
	out, errs, _ := p.run("key", "rotate", "--alg", "EdDSA")
	all := out + errs
	for _, line := range []string{
		"key list", "audience list", "client list", "user list", "session list --user alice", "doctor", "key rotate --alg EdDSA --force",
		"client rotate-secret billing", "audit tail -n 100", "user show alice", "client show web",
	} {
		p.run("client", "add", "billing", "--grant", "client_credentials", "--audience", "shop")
		text, _, _ := p.run(strings.Fields(line)...)
		raw, errs, code := p.run(append(strings.Fields(line), "--json")...)
		if code != 0 && !strings.HasPrefix(line, "doctor") {
			t.Errorf("%s: %s", line, errs)
		}
		all += text + raw
	}
	var instants int
	for _, instant := range regexp.MustCompile(`\d{4}-\d\d-\d\dT[^\s";]*`).FindAllString(all, -1) {
		instants++
		if got, err := time.Parse(time.RFC3339, instant); err != nil || got.Format("2006-01-02T15:04:05Z") != instant {
			t.Errorf("%q is not RFC 3339 in UTC and whole seconds", instant)
		}
	}
	if instants < 50 {
		t.Errorf("%d instants in:\n%s", instants, all)
	}
}

// TestShellsOfferTheNamesThatExist, and no others.
func TestShellsOfferTheNamesThatExist(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.loggedIn(t)
	p.must(nil, "audience", "add", "stock")
	p.must(nil, "client", "add", "worker", "--grant", "client_credentials", "--audience", "shop")
	p.must(nil, "user", "add", "Zoë", "--no-password")
	var keys []api.Key
	p.must(&keys, "key", "list", "--json")
	// Shells complete a word that begins with "-" as a flag, and one thumbprint in 64 begins so.
	keys = slices.DeleteFunc(keys, func(k api.Key) bool { return strings.HasPrefix(k.KID, "-") })
	var sessions []api.Session
	p.must(&sessions, "session", "list", "--json")
	for _, tt := range []struct {
		line string // the last word is what was typed
		want []string
	}{
		{"audience show |", []string{"shop", "stock"}}, {"audience set sho|", []string{"shop"}}, {"audience remove x|", nil},
		{"client show |", []string{"web", "worker"}}, {"client rotate-secret wo|", []string{"worker"}}, {"client remove web |", nil},
		{"user passwd |", []string{"Zoë", "alice"}}, {"user show Z|", []string{"Zoë"}}, {"user add |", nil}, {"client add |", nil},
		{"session list --client |", []string{"web", "worker"}}, {"session list --user a|", []string{"alice"}},
		{"session revoke --client we|", []string{"web"}}, {"client add x --audience |", []string{"shop", "stock"}},
		{"client set web --introspect st|", []string{"stock"}}, {"token --client |", []string{"web", "worker"}},
		{"token --audience |", []string{"shop", "stock"}}, {"verify --audience sh|", []string{"shop"}},
		{"key revoke " + keys[0].KID[:20] + "|", []string{keys[0].KID}}, {"key list |", nil},
		{"session revoke |", []string{sessions[0].ID}}, {"user rename al|", []string{"alice"}}, {"user import |", nil},
		{"client show --data " + t.TempDir() + " |", nil},
	} {
		args := strings.Fields(strings.ReplaceAll(tt.line, "|", ""))
		if strings.HasSuffix(tt.line, " |") {
			args = append(args, "")
		}
		out, _, _ := p.run(append([]string{"__complete"}, args...)...)
		names, directive, _ := strings.Cut(out, ":")
		got := strings.Fields(names)
		files := map[bool]string{false: "4", true: "0"}[strings.Contains(tt.line, "import")]
		if strings.Join(got, " ") != strings.Join(tt.want, " ") || strings.TrimSpace(directive) != files {
			t.Errorf("%s: %q, %q; want %q, and files for a file only", tt.line, got, directive, tt.want)
		}
	}
}
