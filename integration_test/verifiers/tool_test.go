package verifiers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// toolOf builds a tool of a nested module and returns its path in Go's build cache.
func toolOf(module, tool string) (string, error) {
	building.Lock() // so that several tests build it once, and no two large programs at once
	defer building.Unlock()
	cmd := exec.Command("go", "tool", "-n", tool)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", module, err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}

var building sync.Mutex // taken while a tool is built
