package server

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binaryVariable hands a built binary over: from scripts/test to every test process,
// and from Main to the tests.
const binaryVariable = "KEYMILL_BINARY"

// Main builds the binary, unless it is handed over, runs the tests and removes it.
func Main(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(binaryVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "keymill-binary-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(filepath.Join(dir, "keymill"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(binaryVariable, filepath.Join(dir, "keymill"))
	return m.Run()
}

// Binary is the path of the binary under test.
func Binary() (string, error) {
	path := os.Getenv(binaryVariable)
	if path == "" {
		return "", errors.New("no binary: TestMain has to call server.Main")
	}
	return path, nil
}

// Root is the directory of the main module, found upwards from the test.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "cmd", "keymill")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no directory above this one has cmd/keymill")
		}
	}
}

func build(path string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", path, "./cmd/keymill")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build keymill: %w\n%s", err, out)
	}
	return nil
}

// Environment is ours without any setting of keymill, which refuses variables that
// it does not know and would obey the ones that it does.
func Environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYMILL_") {
			env = append(env, v)
		}
	}
	return env
}
