package integration_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunChecksTheGoVersionBeforeItBuilds replaces go in PATH by a script that prints a version.
func TestRunChecksTheGoVersionBeforeItBuilds(t *testing.T) {
	for _, tt := range []struct {
		name, version string // version: shell code that prints the answer of "go env GOVERSION"; "" for no go in PATH
		want          string // on stderr; "" if the script builds and starts the server
	}{
		{"old", "echo go1.19.8", "needs Go 1.26 or later to build, and GO is Go 1.19.8;"},
		{"one release too old", "echo go1.25.9", "needs Go 1.26 or later to build, and GO is Go 1.25.9;"},
		{"offline", "[ ! -f go.mod ] && echo go1.22.0", "needs Go 1.26 or later to build, and GO is Go 1.22.0;"},
		{"none", "", "needs Go 1.26 or later to build, and there is no go in PATH;"},
		{"exact", "echo go1.26.0", ""},
		{"release candidate", "echo go1.26rc1", ""},
		{"newer", "echo 'go1.30.1 X:nodwarf5'", ""},
		{"development", "echo 'devel go1.27-2f3ab1'", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			copyFile(t, "../scripts/run", filepath.Join(dir, "scripts/run"))
			copyFile(t, "../go.mod", filepath.Join(dir, "go.mod"))
			bin := filepath.Join(dir, "tools")
			if err := os.Mkdir(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, tool := range []string{"bash", "cat", "chmod", "dirname", "env", "head", "mkdir", "sed", "sort"} {
				path, err := exec.LookPath(tool)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.version != "" {
				writeScript(t, filepath.Join(bin, "go"), "if [ \"$1\" = env ]; then "+tt.version+"; exit; fi\n"+
					"mkdir -p bin; echo '#!/usr/bin/env bash' > bin/keymill; echo 'echo \"started: $*\"' >> bin/keymill; chmod 755 bin/keymill\n")
			}
			cmd := exec.Command(filepath.Join(dir, "scripts/run"), "--listen", "127.0.0.1:0")
			cmd.Env = []string{"PATH=" + bin}
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			if tt.want == "" {
				if err != nil || out.String() != "started: serve --dev --listen 127.0.0.1:0\n" {
					t.Errorf("%v, %s%s", err, &out, &errs)
				}
				return
			}
			line := strings.Replace(errs.String(), filepath.Join(bin, "go"), "GO", 1)
			if err == nil || out.Len() > 0 || strings.Count(line, "\n") != 1 || !strings.Contains(line, tt.want) {
				t.Errorf("%v, %s%s, want an error and one line with %q", err, &out, line, tt.want)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeScript(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/usr/bin/env bash\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
}
