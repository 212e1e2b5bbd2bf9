package main

import (
	"bytes"
	"context"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/config"
	"keymill/issuer/api"
)

// TestMain lets the test binary run as keymill, so that tests can start, stop and kill the
// real program.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_AS_KEYMILL") != "" {
		os.Unsetenv("RUN_AS_KEYMILL")
		main()
	}
	os.Exit(m.Run())
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
keymill user list --json
keymill user show alice --json
keymill user passwd alice --password-stdin --json
keymill user enable alice --json
keymill user disable alice --json
keymill user remove alice
keymill user logout alice --json
keymill user import FILE --format django-json --claim email --dry-run --skip-existing --json
keymill session list --user alice --client web --json
keymill session list --user alice --json
keymill session revoke ID --json
keymill session revoke --client web
keymill session revoke --all
keymill session why TOKEN --json
keymill session why --token-stdin --json
keymill key list --json
keymill key rotate --alg EdDSA --force --json
keymill key revoke KID --json
keymill key import FILE --alg EdDSA --kid KID --until 2027-01-31T00:00:00Z --sign-now --json
keymill audit tail -n 10 -f --json
keymill token --issuer URL --client billing --audience orders --scope read --client-secret-stdin --json
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
			t.Errorf("%s is not a verb", line)
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
	verbs := 0
	visit = func(cmd *cobra.Command) {
		verbs++
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
	if verbs < len(want) {
		t.Errorf("visited %d verbs, the contract has %d", verbs, len(want))
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
	clearEnvironment(t)
	for _, tt := range []struct {
		line, want string
	}{
		{"kye list", "keymill: unknown verb \"kye\" of keymill\n  hint: did you mean \"keymill key\"?\n"},
		{"key rotat", "keymill: unknown verb \"rotat\" of keymill key\n  hint: did you mean \"keymill key rotate\"?\n"},
		{"client zzz", "keymill: unknown verb \"zzz\" of keymill client\n  hint: \"keymill client --help\" lists them\n"},
		{"key list --jsno", "keymill: unknown flag: --jsno\n  hint: \"keymill key list --help\" tells more\n"},
		{"key rotate", "keymill: --alg is missing\n  hint: keymill key rotate --alg EdDSA\n"},
		{"key revoke", "keymill: KID is missing\n  hint: \"keymill key revoke --help\" shows how\n"},
		{"key revoke A B", "keymill: unexpected argument \"B\"\n  hint: \"keymill key revoke --help\" shows how\n"},
		{"key import x --until tomorrow", "keymill: --until \"tomorrow\" is not an instant like 2027-01-31T00:00:00Z\n"},
		{"completion foo", "keymill: unknown verb \"foo\" of keymill completion\n  hint: \"keymill completion --help\" lists them\n"},
		{"completion bsh", "keymill: unknown verb \"bsh\" of keymill completion\n  hint: did you mean \"keymill completion bash\"?\n"},
		{"completion bash foo", "keymill: unexpected argument \"foo\"\n  hint: \"keymill completion bash --help\" shows how\n"},
		{"key import x --until=", "keymill: --until \"\" is not an instant like 2027-01-31T00:00:00Z\n"},
		{"key list --data=", noDirectory("key list")},
		{"client --data= list", noDirectory("client list")},
		{"token --data=", noDirectory("token")},
		{"doctor --data=", noDirectory("doctor")},
		{"serve --dev --data=", noDirectory("serve")},
		{"audience add orders", "keymill: --alg is missing\n  hint: keymill audience add orders --alg EdDSA (or RS256, which every library verifies)\n"},
		{"audience add orders --alg EdDSA --ttl soon", "keymill: --ttl \"soon\" is not a duration like 30s, 15m, 12h or 30d\n"},
		{"audience set orders", "keymill: nothing to change\n  hint: keymill audience set orders --ttl 5m\n"},
		{"client set billing", "keymill: nothing to change\n  hint: keymill client set billing --scope read\n"},
		{"client set web --grace soon", "keymill: --grace \"soon\" is not a duration like 30s, 15m, 12h or 30d\n"},
		{"client set web --grace 0", "keymill: --grace 0 is ambiguous\n  hint: --grace 0s for no grace, --grace \"\" for the configured one\n"},
		{"client set web --idle -1d", "keymill: --idle \"-1d\" is not a duration like 30s, 15m, 12h or 30d\n"},
		{"user add alice", noPassword("choose either --password-stdin or --no-password", "user add alice")},
		{"user add alice --no-password --password-stdin", noPassword("choose either --password-stdin or --no-password", "user add alice")},
		{"user add alice --no-password --claim role", "keymill: --claim \"role\" is not NAME=VALUE\n  hint: --claim role=admin\n"},
		{"user add alice --no-password --claim =x", "keymill: --claim \"=x\" is not NAME=VALUE\n  hint: --claim role=admin\n"},
		{"user add alice --no-password --claim a=1 --claim a=2", "keymill: --claim a is given twice\n"},
		{"user passwd alice", noPassword("--password-stdin is missing", "user passwd alice")},
		{"user set alice", "keymill: nothing to change\n  hint: keymill user set alice --claim role=admin\n"},
		{"user import users.txt", "keymill: --format is missing\n  hint: keymill user import users.txt --format django-json (or django-csv)\n"},
		{"user import - --format xml", "keymill: --format \"xml\" is neither django-json nor django-csv\n"},
		{"user addd", "keymill: unknown verb \"addd\" of keymill user\n  hint: did you mean \"keymill user add\"?\n"},
		{"session list", "keymill: --user is missing\n  hint: keymill session list --user alice\n"},
		{"session revoke", "keymill: ID is missing\n  hint: \"keymill session revoke --help\" shows how\n"},
		{"session revoke A --all", "keymill: choose one of ID, --client and --all\n"},
		{"session revoke --client web --all", "keymill: choose one of ID, --client and --all\n"},
		{"session why", "keymill: TOKEN is missing\n  hint: \"keymill session why --help\" shows how\n"},
		{"session why kmr_x --token-stdin", "keymill: choose either TOKEN or --token-stdin\n"},
		{"audit tail -n 1001", "keymill: -n 1001 is not between 0 and 1000\n"},
		{"token", "keymill: --client is missing\n  hint: keymill token --issuer URL --client ID\n"},
		{"verify", "keymill: TOKEN is missing\n  hint: \"keymill verify --help\" shows how\n"},
		{"serve now", "keymill: unexpected argument \"now\"\n  hint: \"keymill serve --help\" shows how\n"},
	} {
		out, errs, code := typed(strings.Fields(tt.line)...)
		if errs != tt.want || code != 2 || out != "" {
			t.Errorf("keymill %s: code %d, stdout %q, stderr\n%swant\n%s", tt.line, code, out, errs, tt.want)
		}
	}
}

func noPassword(what, line string) string {
	return "keymill: " + what + "\n  hint: keep it out of the arguments, which every user of the machine sees: read -rs P; printf %s \"$P\" | keymill " + line + " --password-stdin\n"
}

func noDirectory(verb string) string {
	return "keymill: invalid argument \"\" for \"--data\" flag: the name of the directory is empty\n  hint: \"keymill " + verb + " --help\" tells more\n"
}

// TestAnEmptyKeyFileIsAnError: the command before a pipe may have failed.
func TestAnEmptyKeyFileIsAnError(t *testing.T) {
	clearEnvironment(t)
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
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	_, errs, code := typed("key", "list")
	want := "keymill: no server on keymill-data/admin.sock or keymill-dev/admin.sock\n" +
		"  hint: start one with \"keymill serve --dev\", or name the directory of one with --data DIR\n"
	if errs != want || code != 1 {
		t.Errorf("code %d\n%s", code, errs)
	}
	_, errs, code = typed("client", "list", "--data", "my data")
	want = "keymill: no server on my data/admin.sock\n  hint: start one with \"keymill serve --data 'my data'\"\n"
	if errs != want || code != 1 {
		t.Errorf("code %d\n%s", code, errs)
	}
}

// TestAKidThatBeginsWithADashIsNoFlag. One in 64 does.
func TestAKidThatBeginsWithADashIsNoFlag(t *testing.T) {
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	for _, kid := range []string{
		"-mwbKzHynPqoJjt1phuXRzKk9Nr-DNjWQZ_ZamUESdw",
		"--wbKzHynPqoJjt1phuXRzKk9Nr-DNjWQZ_ZamUESdw",
	} {
		for _, args := range [][]string{
			{"key", "revoke", kid}, {"key", "revoke", kid, "--json"}, {"key", "revoke", "--json", kid},
			{"key", "revoke", "--data", "x", "--", kid},
		} {
			if _, errs, code := typed(args...); code != 1 || !strings.HasPrefix(errs, "keymill: no server on ") {
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
	clearEnvironment(t)
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
		{why, " \n", "standard input is empty: no token"},
		{"session why --token-stdin", "", "standard input is empty: no token"},
		{why, strings.Repeat("x", maxTokenBytes+1), "standard input is too long for a token"},
		{passwd, strings.Repeat("x", maxPasswordBytes) + "\r\n", "no server on "}, // valid
		{why, "kmr_x\n", "no server on "},
	} {
		var out, errs strings.Builder
		code := run(t.Context(), strings.Fields(tt.line), strings.NewReader(tt.in), &out, &errs)
		if code != 1 || !strings.HasPrefix(errs.String(), "keymill: "+tt.want) || out.String() != "" {
			t.Errorf("%s < %.20q: code %d, %s%s", tt.line, tt.in, code, out.String(), errs.String())
		}
	}
}

// TestAClaimIsJSONOrElseAString.
func TestAClaimIsJSONOrElseAString(t *testing.T) {
	got, err := parseClaims([]string{"role=admin", "level=3", "ok=true", `teams=["a","b"]`, "eq=a=b", "empty=", `quoted="3"`, "html=<b>", ""})
	want := api.Claims{
		"role": []byte(`"admin"`), "level": []byte("3"), "ok": []byte("true"), "teams": []byte(`["a","b"]`),
		"eq": []byte(`"a=b"`), "empty": []byte(`""`), "quoted": []byte(`"3"`), "html": []byte(`"<b>"`),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: got %s", err, got)
	}
}

func TestVersionIsOneLineOrJSON(t *testing.T) {
	out, _, code := typed("version")
	if code != 0 || !strings.HasPrefix(out, "keymill "+release+" (go") || strings.Count(out, "\n") != 1 {
		t.Errorf("code %d: %q", code, out)
	}
	out, _, _ = typed("version", "--json")
	if !strings.Contains(out, `"version": "`+release+`"`) {
		t.Errorf("JSON: %s", out)
	}
}
