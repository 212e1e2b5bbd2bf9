package crash

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/server"
)

const (
	caseVariable = "KEYMILL_CASE" // path of a kept case, which is then judged alone
	caseDir      = "testdata/cases"
	maxKept      = 5 // cases of one run
)

// A keptCase is one changed store with all that its judgement needs. No seed could repeat it, because
// every run has a store with other keys and other ids. Its access tokens are valid for a day.
type keptCase struct {
	Files         map[string]string // path → content of the configuration, the master key and the secret
	Order         []string          // paths of Files, the configuration first
	Stores, Marks [][]byte          // the stages; the final one is the last

	Keys, Signers, Tokens, Refreshes map[string]string
	Clients                          map[string]server.Client
	Active, Live, Users              map[string]bool

	Kind, What                string
	Store, Mark               []byte
	Logins, Outside, Together bool
}

func newCase(w *lived, m *mutant) *keptCase {
	c := &keptCase{
		Files: map[string]string{}, Order: w.files,
		Keys: w.keys, Signers: w.signers, Tokens: w.tokens, Refreshes: w.refreshes, Clients: w.clients,
		Active: w.active, Live: w.live, Users: w.users,
		Kind: m.kind, What: m.what, Store: m.store, Mark: m.mark, Logins: m.logins, Outside: m.outside, Together: m.together,
	}
	for _, s := range append(w.older[:len(w.older):len(w.older)], w.final) {
		c.Stores, c.Marks = append(c.Stores, s.store), append(c.Marks, s.mark)
	}
	for _, path := range w.files {
		text, _ := os.ReadFile(path) // a missing file fails when the case is judged
		c.Files[path] = string(text)
	}
	return c
}

func (c *keptCase) write(path string) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// keepCase writes a case below testdata and returns the command that judges it alone.
func keepCase(w *lived, m *mutant) string {
	err := os.MkdirAll(caseDir, 0o700)
	if err != nil {
		return err.Error()
	}
	f, err := os.CreateTemp(caseDir, "*.json")
	if err != nil {
		return err.Error()
	}
	f.Close()
	if err := newCase(w, m).write(f.Name()); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("to judge this case alone: %s=%s go test ./integration_test/crash -run TestNoChangeOfAClosedStoreOpensADoor", caseVariable, f.Name())
}

// readCase reads a case and writes its files to dir.
func readCase(path, dir string) (*lived, *mutant, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	var c keptCase
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, nil, err
	}
	w := &lived{
		keys: c.Keys, signers: c.Signers, tokens: c.Tokens, refreshes: c.Refreshes, clients: c.Clients,
		active: c.Active, live: c.Live, users: c.Users,
	}
	config := c.Files[c.Order[0]]
	for _, path := range c.Order[1:] {
		config = strings.ReplaceAll(config, path, filepath.Join(dir, filepath.Base(path)))
	}
	c.Files[c.Order[0]] = config
	for _, path := range c.Order {
		w.files = append(w.files, filepath.Join(dir, filepath.Base(path)))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(c.Files[path]), 0o600); err != nil {
			return nil, nil, err
		}
	}
	for n := range c.Stores {
		s, err := newStage(c.Stores[n], c.Marks[n])
		if err != nil {
			return nil, nil, err
		}
		w.older = append(w.older, s)
	}
	last := len(w.older) - 1
	w.final, w.older = w.older[last], w.older[:last]
	return w, &mutant{
		kind: c.Kind, what: c.What, store: c.Store, mark: c.Mark, logins: c.Logins, outside: c.Outside, together: c.Together,
	}, nil
}

// judgeAgain judges one kept case.
func judgeAgain(t *testing.T, path, binary string) {
	t.Helper()
	w, m, err := readCase(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	v := newJudge(t, w, binary).judge(m)
	t.Logf("%s: %s", m.what, v.why)
	if v.outcome == violation {
		t.Error("the case is still a violation")
	}
}
