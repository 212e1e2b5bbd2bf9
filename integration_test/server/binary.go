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

// binaryVariable is the environment variable with the path of the binary. scripts/test sets it for
// every test process, and Main sets it for the tests.
const binaryVariable = "KEYMILL_BINARY"

// Main builds the binary, runs the tests and removes the binary. It builds nothing if
// binaryVariable is set.
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

// Binary returns the path of the binary under test.
func Binary() (string, error) {
	path := os.Getenv(binaryVariable)
	if path == "" {
		return "", errors.New("there is no binary: TestMain must call server.Main")
	}
	return path, nil
}

// Root returns the directory of the main module: the first one that contains cmd/keymill, from the
// directory of the test upwards.
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
			return "", errors.New("neither this directory nor one above it contains cmd/keymill")
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

// Environment returns the environment of this process without the variables of Keymill. The server
// would read those as settings, and it refuses a variable that it does not know.
func Environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYMILL_") {
			env = append(env, v)
		}
	}
	return env
}
