package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/storage/moved"
)

// A server has a store, and answers requests about its migration unless it is stopped.
type server struct {
	store *openstore.Store
	runs  sync.RWMutex // held for writing while it is stopped
}

func newServer(t *testing.T, dir string) *server {
	t.Helper()
	store, err := openstore.Open(t.Context(), &config.Config{Data: dir}, openstore.Options{})
	must(t, err)
	s := &server{store: store}
	h := httptest.NewUnstartedServer(s)
	h.Listener.Close()
	h.Listener, err = net.Listen("unix", filepath.Join(dir, "admin.sock"))
	must(t, err)
	h.Start()
	t.Cleanup(func() {
		h.Close()
		store.Close()
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.runs.RLock()
	defer s.runs.RUnlock()
	if strings.HasSuffix(r.URL.Path, "/records") {
		s.store.MigrationRecords(r.Context(), w, "")
		return
	}
	var q api.MigrationRequest
	err := json.NewDecoder(r.Body).Decode(&q)
	if err == nil {
		var a api.Migration
		if a, err = s.store.Migrate(r.Context(), q); err == nil {
			json.NewEncoder(w).Encode(a)
			return
		}
	}
	http.Error(w, fmt.Sprintf(`{"error":"in_use","detail":%q}`, err.Error()), http.StatusConflict)
}

// TestAMigrationGivesUpAServerThatIsStopped: it says what it waits for, ends with an error that says what to do, and
// goes on when the same command is run again.
func TestAMigrationGivesUpAServerThatIsStopped(t *testing.T) {
	for _, at := range []string{"look", "copy", "finish"} {
		from, want := newDir(t, 100)
		to := filepath.Join(t.TempDir(), "target")
		s := newServer(t, from)
		patience := 300 * time.Millisecond
		move := func(step func(string) error) (notes string, err error) {
			var out bytes.Buffer
			m := &migration{Options: Options{From: from, To: to, Notes: &out, Password: noPassword, step: step, patience: patience}, progress: terminal.NewProgress(&out)}
			must(t, m.addresses())
			m.from = m.saying(liveSource(adminapi.New(filepath.Join(from, "admin.sock")), m.patience))
			must(t, step("look"))
			if m.facts, err = m.from.look(t.Context()); err != nil {
				return out.String(), err
			}
			m.record = moved.NewRun(m.fromAddr.String(), m.toAddr.String(), m.facts.Meta.DatabaseID)
			must(t, m.openTarget(t.Context(), true))
			defer m.to.Close()
			if m.facts.Record != nil && m.facts.Record.State == moved.Moved { // the server has ended the run when it went on
				_, err := m.completeMoved(t.Context())
				return out.String(), err
			}
			must(t, m.checkTarget(t.Context()))
			err = m.move(t.Context())
			return out.String(), err
		}
		notes, err := move(func(step string) error {
			if step == at {
				s.runs.Lock()
			}
			return nil
		})
		if !errors.Is(err, errSilent) || !strings.Contains(err.Error(), from) || strings.Count(err.Error(), "\n") > 0 || terminal.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %s", at, err, terminal.HintOf(err))
		}
		if !strings.Contains(notes, "waiting for "+from+", which has not answered for ") {
			t.Errorf("%s: the migration said %q", at, notes)
		}
		s.runs.Unlock()
		s.runs.Lock()     // what was asked before is done now
		if at == "copy" { // the server takes the run for dead after a minute; here it is known to be
			_, err = s.store.Migrate(t.Context(), api.MigrationRequest{Step: "free"})
			must(t, err)
		}
		s.runs.Unlock()
		patience = time.Minute
		if _, err := move(func(string) error { return nil }); err != nil {
			t.Errorf("%s: the same command again: %v", at, err)
		}
		if got := read(t, to); len(got) != len(want) {
			t.Errorf("%s: %d records, want %d", at, len(got), len(want))
		}
	}
}
