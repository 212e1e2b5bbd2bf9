package console

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
)

// TestMistakesAreUsageErrors that say what to type, before a server is looked for.
func TestMistakesAreUsageErrors(t *testing.T) {
	lines := map[string]string{
		"extra": "unexpected argument", "--listen 0.0.0.0:0": "no address of loopback", "--listen 8421": "is not IP:port", "--listen localhost:0": "no address of loopback",
	}
	if os.Geteuid() == 0 {
		lines["--open"] = "would start the browser as root"
	}
	for line, want := range lines {
		dialed := false
		cmd := Command(func(*cobra.Command) {}, func(*cobra.Command) (*adminapi.Client, error) { dialed = true; return nil, errors.New("dialed") })
		cmd.SetArgs(strings.Fields(line))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.Execute()
		var usage *terminal.Error
		if !errors.As(err, &usage) || usage.Code != 2 || !strings.Contains(err.Error(), want) || dialed {
			t.Errorf("%s: %v", line, err)
		}
	}
}
