package migrate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/storage"
	"keymill/storage/moved"
	"keymill/storage/postgres/postgrestest"
)

func noPassword(string) (func() (string, error), error) { return nil, nil }

// inProcess runs a migration in a process of its own, and kills it after a while unless limit is 0.
func inProcess(t *testing.T, from, to string, limit time.Duration) (took time.Duration, err error) {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), migrateFrom+"="+from, migrateTo+"="+to)
	begun := time.Now()
	must(t, cmd.Start())
	if limit > 0 {
		defer time.AfterFunc(limit, func() { cmd.Process.Kill() }).Stop()
	}
	err = cmd.Wait()
	return time.Since(begun), err
}

// TestAKillAtAnyMomentLosesNothing: a migration is killed again and again, the source is served and written in between
// as long as it may be, and the target has every record at the end.
func TestAKillAtAnyMomentLosesNothing(t *testing.T) {
	for kind, target := range map[string]func() string{
		"file":     func() string { return filepath.Join(t.TempDir(), "target") },
		"database": func() string { return postgrestest.Shared(t).Database(t) },
	} {
		first, _ := newDir(t, 4000)
		whole, err := inProcess(t, first, target(), 0)
		must(t, err)
		from, want := newDir(t, 4000)
		to := target()
		kills, ended := 0, 0
		for n := 0; kills < counts.Of("migrate-kills"); n++ {
			_, err := inProcess(t, from, to, 1+rand.N(whole))
			if err == nil {
				checkMoved(t, from, to, want)
				from, want = newDir(t, 4000)
				to = target()
				ended++
				continue
			}
			kills++
			writeWhile(t, from, n, want)
		}
		if _, err := inProcess(t, from, to, 0); err != nil {
			t.Fatalf("%s: the last run: %v", kind, err)
		}
		checkMoved(t, from, to, want)
		t.Logf("counted: %d kills, %d migrations that ended before", kills, ended)
	}
}

// writeWhile serves the source, as far as its record allows.
func writeWhile(t *testing.T, from string, n int, want map[string]string) {
	t.Helper()
	s := openAt(t, from)
	defer s.Close()
	err := moved.Admit(t.Context(), s, 0, nil)
	if refused := (*moved.Error)(nil); errors.As(err, &refused) && refused.State == moved.Moved {
		return
	}
	must(t, err)
	key := fmt.Sprintf("later/%d", n)
	must(t, moved.Gate{Store: s}.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(key)) }))
	want[key] = key
}
