package diagnose

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
)

// TestAFindingHasNoRawErrorOfGo, and the hint follows it.
func TestAFindingHasNoRawErrorOfGo(t *testing.T) {
	_, missing := os.Open("/none/key")
	var into int
	for want, err := range map[string]error{
		"cannot open /none/key: no such file or directory":                     missing,
		"cannot open /none/key: no such file or directory; chmod it":           terminal.WithHint(missing, "chmod it"),
		"cannot write /data/keymill.db: file already closed":                   &os.PathError{Op: "fsync", Path: "/data/keymill.db", Err: os.ErrClosed},
		"the store: the JSON is not well-formed":                               fmt.Errorf("the store: %w", json.Unmarshal([]byte("{"), &into)),
		"a server does not answer: there was no answer in time; is it stopped": terminal.WithHint(fmt.Errorf("a server does not answer: %w", os.ErrDeadlineExceeded), "is it stopped"),
	} {
		var f Findings
		if f.add("check", "", err); f.Checks[0].Detail != want {
			t.Errorf("%q, want %q", f.Checks[0].Detail, want)
		}
	}
}
