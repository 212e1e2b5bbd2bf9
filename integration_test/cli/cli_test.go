package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// awaitLimit limits await. The longest wait in a script is for keys to propagate.
const awaitLimit = 5 * time.Minute

func TestCommandLinesKeepTheirPromises(t *testing.T) {
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
			s := &state{}
			e.Values[stateKey{}] = s
			e.Defer(s.close)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "sigterm": sigterm, "kill9": kill9,
			"exits": exits, "await": await, "capture": capture,
			"fetch": fetch, "post": post, "token": token,
			"snapshot": snapshot, "unchanged": unchanged, "occupy": occupy,
		},
	})
}

// TestEveryScriptRunsToItsEnd: testscript has a command "stop" of its own. It ends the script at that line,
// with success.
func TestEveryScriptRunsToItsEnd(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	stop := regexp.MustCompile(`(?m)^\s*(\[.*\]\s*)*stop\b`)
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if at := stop.FindIndex(text); at != nil {
			t.Errorf("%s:%d: stop ends the script with success; use sigterm to stop the server", name, 1+strings.Count(string(text[:at[0]]), "\n"))
		}
	}
}

// exits is exec that wants an exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N program arg...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: await program arg...")
	}
	var err error
	for deadline := time.Now().Add(awaitLimit); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = ts.Exec(args[0], args[1:]...); err == nil {
			return
		}
	}
	ts.Fatalf("still failing after %v: %v", awaitLimit, err)
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME regexp")
	}
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("no match for %s in %q", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], m[1])
}
