package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// TestNoLogLineHasARawErrorOfGo: the log and the warnings of the admin API say in plain words what
// commands say in plain words.
func TestNoLogLineHasARawErrorOfGo(t *testing.T) {
	_, missing := os.Open("/none/keymill.yaml")
	var into int
	for _, tt := range []struct {
		err       error
		raw, want string
	}{
		{missing, ": open /none", "cannot open /none/keymill.yaml: no such file or directory"},
		{&os.PathError{Op: "fsync", Path: "/data/keymill.db", Err: os.ErrClosed}, "fsync", "cannot write /data/keymill.db"},
		{json.Unmarshal([]byte("{"), &into), "unexpected end", "the JSON is not well-formed"},
		{os.ErrDeadlineExceeded, "i/o timeout", "there was no answer in time"},
	} {
		s := &server{config: &config.Config{SimpleJWTClient: "web"}}
		var log strings.Builder
		s.log, s.queue = newLog("text", &s.level, &log)
		s.reload(func() (*config.Config, error) {
			return nil, terminal.WithHint(fmt.Errorf("x: %w", tt.err), "type this")
		})
		s.reportDamage(fmt.Errorf("x: %w", tt.err))
		s.queue.Close()
		faults := loginFaults(s.config, Records{Client: func(string) (api.Client, error) { return api.Client{}, errors.Join(tt.err) }})
		texts := append(strings.Split(strings.TrimSpace(log.String()), "\n"), s.watch.audit, faults[0].why)
		if len(texts) != 4 || !strings.Contains(texts[0], `hint="type this"`) {
			t.Errorf("%q", texts)
		}
		for _, text := range texts {
			if want := strings.TrimPrefix(tt.want, "cannot open "); strings.Contains(text, tt.raw) || !strings.Contains(text, strings.TrimPrefix(want, "cannot write ")) {
				t.Errorf("%q, want %q", text, tt.want)
			}
		}
	}
}
