package main

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/buildinfo"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/storage/postgres/postgrestest"
)

// TestMain lets the test binary run as keymill, so that tests can start, stop and kill the
// real program.
func TestMain(m *testing.M) {
	// doctor runs itself again. RUN_AS_KEYMILL is gone then.
	if os.Getenv("RUN_AS_KEYMILL") != "" || len(os.Args) > 1 && slices.Contains([]string{diagnose.PagesVerb, diagnose.AccessVerb}, os.Args[1]) {
		os.Unsetenv("RUN_AS_KEYMILL")
		main()
	}
	if socket := os.Getenv("LISTEN_AS_KEYMILL"); socket != "" {
		listenAs(socket)
		os.Exit(1)
	}
	// Under nohup SIGHUP is ignored, and the servers of the tests would inherit that. What a handler
	// receives has its default again in a child.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	postgrestest.Main(m)
}

// typed runs one command line in this process.
func typed(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// contract holds the command lines that users may rely on.
const contract = `
keymill serve --config FILE --dev --data DIR --listen ADDR --issuer URL
keymill serve --init --accept-new-issuer
keymill init --config FILE --data DIR --json
keymill version --json
keymill audience add orders --alg EdDSA --ttl 15m --scope read --scope write --profile simplejwt
keymill audience set orders --ttl 5m --scope read --profile rfc9068 --json
keymill audience show orders --json
keymill audience list --json --data DIR
keymill audience remove orders
keymill client add billing --grant client_credentials --audience orders --scope read --json
keymill client add web --public --grant refresh_token --audience orders --origin https://app.example
keymill client set billing --grant client_credentials --audience orders --scope read --origin https://app.example
keymill client add kiosk --public --grant refresh_token --audience orders --grace 0s --idle 12h --absolute 7d
keymill client add orders-api --introspect orders
keymill client set orders-api --introspect orders --introspect shop
keymill client set web --grace 10s --idle 7d --absolute 30d --json
keymill client list --json
keymill client show billing --json
keymill client rotate-secret billing --old-for 24h --json
keymill client enable billing
keymill client disable billing
keymill client remove billing
keymill user add alice --id 7 --password-stdin
keymill user add bob --no-password --claim role=admin --claim level=3 --disabled --json
keymill user set alice --claim role=admin --json
keymill user rename alice bob --json
keymill user list --json
keymill user show alice --json
keymill user passwd alice --password-stdin --json
keymill user enable alice --json
keymill user disable alice --json
keymill user remove alice
keymill user remove alice --yes
keymill user logout alice --json
keymill user unblock alice --json
keymill user import FILE --format django-json --claim email --dry-run --skip-existing --without-password --json
keymill apply -f FILE --prune --yes --json --data DIR
keymill apply -f DIR
keymill session list --user alice --client web --json
keymill session list --user alice --json
keymill session list --client web --after ID --limit 20
keymill session list
keymill session revoke ID --json
keymill session revoke --client web
keymill session revoke --all
keymill session revoke --all --yes
keymill session why TOKEN --json
keymill session why --token-stdin --json
keymill key list --json
keymill key rotate --alg EdDSA --force --json
keymill key rotate --alg EdDSA --wait 1h --json
keymill key revoke KID --watch --json
keymill verifier add NAME --json
keymill verifier list --json
keymill verifier list --holding KID --json
keymill verifier list --observed --json
keymill verifier show NAME --json
keymill verifier remove NAME --json
keymill key revoke KID --json
keymill key import FILE --alg EdDSA --kid KID --until 2027-01-31T00:00:00Z --sign-now --json
keymill audit tail -n 10 -f --json
keymill audit tail --since 2h --until 2027-01-31T00:00:00Z --user alice --client web --action session.login
keymill audit tail --store FILE --config FILE --all --json
keymill token --issuer URL --client billing --audience orders --scope read --client-secret-stdin --json
keymill token --issuer URL --client billing --client-secret-file FILE
keymill verify TOKEN --issuer URL --jwks URL --audience orders --scope read --alg EdDSA --leeway 30s --json
keymill doctor --data DIR --config FILE --new-master-key-file FILE --json
`

// TestTheContractLinesAreUnderstood parses them, flags and arguments, and runs nothing.
func TestTheContractLinesAreUnderstood(t *testing.T) {
	for line := range strings.Lines(strings.TrimSpace(contract)) {
		args := strings.Fields(line)[1:]
		cmd, rest, err := newRoot().Find(args)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if !strings.HasPrefix(line, cmd.CommandPath()+" ") && strings.TrimSpace(line) != cmd.CommandPath() {
			t.Errorf("%s runs %s", line, cmd.CommandPath())
		}
		if cmd.HasSubCommands() {
			t.Errorf("%s is not a command", line)
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestEveryVerbHasHelpWithAnExample.
func TestEveryVerbHasHelpWithAnExample(t *testing.T) {
	var visit func(*cobra.Command)
	commands := 0
	visit = func(cmd *cobra.Command) {
		commands++
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s has no example or no short help", cmd.CommandPath())
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("the example of %s does not use it:\n%s", cmd.CommandPath(), cmd.Example)
		}
		if cmd.Args == nil {
			t.Errorf("%s takes any argument", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
	want := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(contract)) {
		cmd, _, err := newRoot().Find(strings.Fields(line)[1:])
		if err != nil {
			t.Fatal(err)
		}
		want[cmd.CommandPath()] = true
	}
	if commands < len(want) {
		t.Errorf("visited %d commands, the contract has %d", commands, len(want))
	}
}

// TestTheManualOfServeListsEverySetting with its variable and its default.
func TestTheManualOfServeListsEverySetting(t *testing.T) {
	out, _, code := typed("serve", "--help")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, s := range config.Settings() {
		if !strings.Contains(out, s.Key+"  ("+s.Variable()+")") {
			t.Errorf("%s is not listed", s.Key)
		}
		if s.Default != "" && !strings.Contains(out, "default: "+s.Default) {
			t.Errorf("the default %s of %s is not listed", s.Default, s.Key)
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 101 {
			t.Errorf("a line of %d bytes: %s", len(line), line)
		}
	}
}

// TestAUsageErrorSaysWhatToType on at most two lines, with exit code 2 and an empty stdout.
func TestAUsageErrorSaysWhatToType(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for _, tt := range []struct {
		line, want string
	}{
		{"kye list", "keymill: unknown command \"kye\" for \"keymill\"\n  hint: did you mean \"keymill key\"?\n"},
		{"key rotat", "keymill: unknown command \"rotat\" for \"keymill key\"\n  hint: did you mean \"keymill key rotate\"?\n"},
		{"key rotat --alg EdDSA", "keymill: unknown command \"rotat\" for \"keymill key\"\n  hint: did you mean \"keymill key rotate\"?\n"},
		{"key --alg EdDSA rotat", "keymill: unknown flag: --alg\n  hint: run \"keymill key --help\" to see the flags\n"},
		{"client zzz", "keymill: unknown command \"zzz\" for \"keymill client\"\n  hint: run \"keymill client --help\" to list the commands\n"},
		{"key list --jsno", "keymill: unknown flag: --jsno\n  hint: did you mean \"--json\"?\n"},
		{"help clinet", "keymill: unknown command \"clinet\" for \"keymill\"\n  hint: did you mean \"keymill client\"?\n"},
		{"help client lsit", "keymill: unknown command \"lsit\" for \"keymill client\"\n  hint: did you mean \"keymill client list\"?\n"},
		{"help zzzzzz", "keymill: unknown command \"zzzzzz\" for \"keymill\"\n  hint: run \"keymill --help\" to list the commands\n"},
		{"help client add web", "keymill: unexpected argument \"web\"\n  hint: run \"keymill client add --help\" for the usage\n"},
		{"client delete", "keymill: unknown command \"delete\" for \"keymill client\"\n  hint: did you mean \"keymill client remove\"?\n"},
		{"client create", "keymill: unknown command \"create\" for \"keymill client\"\n  hint: did you mean \"keymill client add\"?\n"},
		{"user rm", "keymill: unknown command \"rm\" for \"keymill user\"\n  hint: did you mean \"keymill user remove\"?\n"},
		{"user edit", "keymill: unknown command \"edit\" for \"keymill user\"\n  hint: did you mean \"keymill user set\"?\n"},
		{"key delete", "keymill: unknown command \"delete\" for \"keymill key\"\n  hint: did you mean \"keymill key revoke\"?\n"},
		{"session delete", "keymill: unknown command \"delete\" for \"keymill session\"\n  hint: did you mean \"keymill session revoke\"?\n"},
		{"audit list", "keymill: unknown command \"list\" for \"keymill audit\"\n  hint: did you mean \"keymill audit tail\"?\n"},
		{"audience get", "keymill: unknown command \"get\" for \"keymill audience\"\n  hint: did you mean \"keymill audience show\"?\n"},
		{"start", "keymill: unknown command \"start\" for \"keymill\"\n  hint: did you mean \"keymill serve\"?\n"},
		{"status", "keymill: unknown command \"status\" for \"keymill\"\n  hint: did you mean \"keymill doctor\"?\n"},
		{"-V", "keymill: unknown shorthand flag: 'V' in -V\n  hint: did you mean \"keymill version\"?\n"},
		{"user add alice --password x", "keymill: unknown flag: --password\n  hint: did you mean \"--password-stdin\"?\n"},
		{"user passwd alice --password=x", "keymill: unknown flag: --password\n  hint: did you mean \"--password-stdin\"?\n"},
		{"client add web --origins https://a.example", "keymill: unknown flag: --origins\n  hint: did you mean \"--origin\"?\n"},
		{"user add alice --zzzzzzz", "keymill: unknown flag: --zzzzzzz\n  hint: run \"keymill user add --help\" to see the flags\n"},
		{"key rotate", "keymill: --alg is missing\n  hint: keymill key rotate --alg EdDSA\n"},
		{"key revoke", "keymill: KID is missing\n  hint: run \"keymill key revoke --help\" for the usage\n"},
		{"key revoke A B", "keymill: unexpected argument \"B\"\n  hint: run \"keymill key revoke --help\" for the usage\n"},
		{"key import x --until tomorrow", "keymill: --until \"tomorrow\" is not a time like 2027-01-31T00:00:00Z\n"},
		{"completion foo", "keymill: unknown command \"foo\" for \"keymill completion\"\n  hint: run \"keymill completion --help\" to list the commands\n"},
		{"completion bsh", "keymill: unknown command \"bsh\" for \"keymill completion\"\n  hint: did you mean \"keymill completion bash\"?\n"},
		{"completion bash foo", "keymill: unexpected argument \"foo\"\n  hint: run \"keymill completion bash --help\" for the usage\n"},
		{"key import x --until=", "keymill: --until \"\" is not a time like 2027-01-31T00:00:00Z\n"},
		{"key list --data=", noDirectory("key list")},
		{"client --data= list", noDirectory("client list")},
		{"token --data=", noDirectory("token")},
		{"doctor --data=", noDirectory("doctor")},
		{"serve --dev --data=", noDirectory("serve")},
		{"audience add orders --alg=", "keymill: --alg is empty\n  hint: leave it out for EdDSA, or give --alg RS256, which every library verifies\n"},
		{"audience add orders --alg EdDSA --ttl soon", "keymill: --ttl \"soon\" is not a duration like 30s, 15m, 12h or 30d\n"},
		{"audience set orders", "keymill: no change was given\n  hint: keymill audience set orders --ttl 5m\n"},
		{"client set billing", "keymill: no change was given\n  hint: keymill client set billing --scope read\n"},
		{"client set web --grace soon", "keymill: --grace \"soon\" is not a duration like 30s, 15m, 12h or 30d\n"},
		{"client set web --grace 0", "keymill: --grace 0 is ambiguous\n  hint: --grace 0s for no grace, --grace \"\" for the configured one\n"},
		{"client set web --idle -1d", "keymill: --idle \"-1d\" is not a duration like 30s, 15m, 12h or 30d\n"},
		{"user add alice", noPassword("--password-stdin or --no-password is missing", "user add alice")},
		{"user add alice --no-password --password-stdin", "keymill: --password-stdin and --no-password cannot be combined\n"},
		{"user add alice --no-password --claim role", "keymill: --claim \"role\" is not NAME=VALUE\n  hint: --claim role=admin\n"},
		{"user add alice --no-password --claim =x", "keymill: --claim \"=x\" is not NAME=VALUE\n  hint: --claim role=admin\n"},
		{"user add alice --no-password --claim a=1 --claim a=2", "keymill: --claim a is given twice\n"},
		{"user passwd alice", noPassword("--password-stdin is missing", "user passwd alice")},
		{"user set alice", "keymill: no change was given\n  hint: keymill user set alice --claim role=admin\n"},
		{"user import -", "keymill: --format is missing\n  hint: add --format django-json or --format django-csv\n"},
		{"user import - --format xml", "keymill: --format \"xml\" is neither django-json nor django-csv\n"},
		{"user addd", "keymill: unknown command \"addd\" for \"keymill user\"\n  hint: did you mean \"keymill user add\"?\n"},
		{"session list --user=", "keymill: --user is empty; is a variable not set?\n"},
		{"session list --client= --user alice", "keymill: --client is empty; is a variable not set?\n"},
		{"session list --after=", "keymill: --after is empty; is a variable not set?\n"},
		{"session list --limit 0", "keymill: --limit 0 is not 1 or more\n"},
		{"session revoke", "keymill: session ID, --client or --all is missing\n  hint: run \"keymill session revoke --help\" for the usage\n"},
		{"session revoke A --all", "keymill: ID, --client and --all cannot be combined; give one of them\n"},
		{"session revoke --client web --all", "keymill: ID, --client and --all cannot be combined; give one of them\n"},
		{"session why", "keymill: TOKEN is missing\n  hint: run \"keymill session why --help\" for the usage\n"},
		{"session why kmr_x --token-stdin", "keymill: TOKEN and --token-stdin cannot be combined; give one of them\n"},
		{"audit tail -n 1001", "keymill: -n 1001 is not between 0 and 1000\n"},
		{"audit tail -n 10 --all", "keymill: -n and --all cannot be combined\n"},
		{"audit tail -f --until 1h", "keymill: --follow and --until cannot be combined\n"},
		{"audit tail -f --store x", "keymill: --follow and --store cannot be combined: no server writes to the file\n"},
		{"audit tail --user=", "keymill: --user is empty; is a variable not set?\n"},
		{"token", "keymill: --client is missing\n  hint: keymill token --issuer URL --client ID\n"},
		{"apply", "keymill: -f is missing or empty\n  hint: keymill apply -f FILE or -f DIR\n"},
		{"apply --file= --yes", "keymill: -f is missing or empty\n  hint: keymill apply -f FILE or -f DIR\n"},
		{"apply clients.yaml", "keymill: unexpected argument \"clients.yaml\"\n  hint: give each file its own -f, or the directory of all: keymill apply -f DIR\n"},
		{"verify", "keymill: TOKEN is missing\n  hint: run \"keymill verify --help\" for the usage\n"},
		{"serve now", "keymill: unexpected argument \"now\"\n  hint: run \"keymill serve --help\" for the usage\n"},
	} {
		out, errs, code := typed(strings.Fields(tt.line)...)
		if errs != tt.want || code != 2 || out != "" {
			t.Errorf("keymill %s: code %d, stdout %q, stderr\n%swant\n%s", tt.line, code, out, errs, tt.want)
		}
	}
}

func noPassword(what, line string) string {
	return "keymill: " + what + "\n  hint: read -rs P; printf %s \"$P\" | keymill " + line + " --password-stdin\n"
}

func noDirectory(command string) string {
	return "keymill: invalid argument \"\" for \"--data\" flag: the value is empty; is a variable not set?\n  hint: run \"keymill " + command + " --help\" to see the flags\n"
}

// TestAnEmptyKeyFileIsAnError: the command before a pipe may have failed.
func TestAnEmptyKeyFileIsAnError(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("empty.pem", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"-": "keymill: standard input is empty\n", "empty.pem": "keymill: empty.pem is empty\n"} {
		if _, errs, code := typed("key", "import", name); code != 1 || errs != want {
			t.Errorf("code %d, %swant %s", code, errs, want)
		}
	}
}

// TestNoServerSaysHowToStartOne, with and without --data.
func TestNoServerSaysHowToStartOne(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Chdir(t.TempDir())
	_, errs, code := typed("key", "list")
	want := "keymill: no server is running on keymill-data or keymill-dev\n" +
		"  hint: start one with \"keymill serve --dev\", or name the data directory of a running server with --data DIR\n"
	if errs != want || code != 1 {
		t.Errorf("code %d\n%s", code, errs)
	}
	_, errs, code = typed("client", "list", "--data", "my data")
	want = "keymill: no server is running on the data directory my data\n  hint: start one with \"keymill serve --data 'my data'\"\n"
	if errs != want || code != 1 {
		t.Errorf("code %d\n%s", code, errs)
	}
}

// TestAKidThatBeginsWithADashIsNoFlag. One in 64 does.
func TestAKidThatBeginsWithADashIsNoFlag(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Chdir(t.TempDir())
	for _, kid := range []string{
		"-mwbKzHynPqoJjt1phuXRzKk9Nr-DNjWQZ_ZamUESdw",
		"--wbKzHynPqoJjt1phuXRzKk9Nr-DNjWQZ_ZamUESdw",
	} {
		for _, args := range [][]string{
			{"key", "revoke", kid}, {"key", "revoke", kid, "--json"}, {"key", "revoke", "--json", kid},
			{"key", "revoke", "--data", "x", "--", kid},
		} {
			if _, errs, code := typed(args...); code != 1 || !strings.HasPrefix(errs, "keymill: no server is running on ") {
				t.Errorf("%q: code %d, %s", args, code, errs)
			}
		}
	}
	if _, errs, code := typed("key", "revoke", "--"+strings.Repeat("long", 11)); code != 2 || !strings.Contains(errs, "unknown flag") {
		t.Errorf("a long flag: code %d, %s", code, errs)
	}
}

// TestAnEmptyOrTooLongSecretIsAnError on standard input.
func TestAnEmptyOrTooLongSecretIsAnError(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Chdir(t.TempDir())
	const passwd, why = "user passwd alice --password-stdin", "session why -"
	for _, tt := range []struct{ line, in, want string }{
		{passwd, "", "standard input is empty: no password"},
		{passwd, "\n", "standard input is empty: no password"},
		{passwd, "\r\n", "standard input is empty: no password"},
		{passwd, "one\ntwo\n", "standard input has more than one line"},
		{passwd, "one\n\n", "standard input has more than one line"},
		{passwd, "broken \xff", "the password is not UTF-8"},
		{passwd, strings.Repeat("x", maxPasswordBytes+1), "the password is longer than 4096 bytes"},
		{passwd, strings.Repeat("x", maxPasswordBytes+9) + "\n", "the password is longer than 4096 bytes"},
		{"user add alice --password-stdin", "", "standard input is empty: no password"},
		{why, " \n", "TOKEN is empty: nothing came on standard input"},
		{"session why --token-stdin", "", "TOKEN is empty: nothing came on standard input"},
		{why, strings.Repeat("x", maxTokenBytes+1), "standard input is too long for a token"},
		{passwd, strings.Repeat("x", maxPasswordBytes) + "\r\n", "no server is running on "}, // valid
		{why, "kmr_x\n", "no server is running on "},
	} {
		var out, errs strings.Builder
		code := run(t.Context(), strings.Fields(tt.line), strings.NewReader(tt.in), &out, &errs)
		wantCode := 1
		if strings.HasPrefix(tt.line, "session why") { // like verify
			wantCode = map[bool]int{true: notChecked, false: 2}[tt.in == "kmr_x\n"]
		}
		if code != wantCode || !strings.HasPrefix(errs.String(), "keymill: "+tt.want) || out.String() != "" {
			t.Errorf("%s < %.20q: code %d, %s%s", tt.line, tt.in, code, out.String(), errs.String())
		}
	}
}

func TestVersionIsOneLineOrJSON(t *testing.T) {
	out, _, code := typed("version")
	if code != 0 || !strings.HasPrefix(out, "keymill "+release+" (go") || strings.Count(out, "\n") != 1 {
		t.Errorf("code %d: %q", code, out)
	}
	for _, flag := range []string{"--version", "-v"} {
		if same, errs, code := typed(flag); same != out || errs != "" || code != 0 {
			t.Errorf("%s: code %d: %q, %q", flag, code, same, errs)
		}
	}
	out, _, _ = typed("version", "--json")
	if !strings.Contains(out, `"version": "`+release+`"`) {
		t.Errorf("JSON: %s", out)
	}
}

// TestABuildNamesItsSource as far as the build recorded it.
func TestABuildNamesItsSource(t *testing.T) {
	b := buildinfo.Build{Version: "1.2.3", Go: "go1.26.8", Platform: "linux/arm64"}
	if got, want := b.String(), "keymill 1.2.3 (go1.26.8, linux/arm64)\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b.Revision, b.Time, b.Modified = "0c51e7a", "2026-11-28T09:14:02Z", true
	if got, want := b.String(), "keymill 1.2.3 (go1.26.8, linux/arm64, commit 0c51e7a of 2026-11-28T09:14:02Z, modified)\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestTheVersionIsTheNewestOfTheChangelog, so that a build from source and scripts/release agree.
func TestTheVersionIsTheNewestOfTheChangelog(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, newest, _ := strings.Cut(string(text), "\n## ")
	if newest, _, _ = strings.Cut(newest, "\n"); newest != release && !strings.HasPrefix(newest, release+" (") {
		t.Errorf("the newest section of CHANGELOG.md is %q, and the program is %s", newest, release)
	}
}
