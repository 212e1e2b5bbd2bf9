package migrate

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/storage"
	"keymill/storage/postgres/postgrestest"
)

// TestAFullDiskOfTheTargetStopsNothing: the source is written again, and the same command goes on with more space.
func TestAFullDiskOfTheTargetStopsNothing(t *testing.T) {
	terminaltest.NeedRoot(t)
	dir := filepath.Join(t.TempDir(), "small")
	must(t, syscall.Mkdir(dir, 0o700))
	must(t, syscall.Mount("keymill-test", dir, "tmpfs", 0, "size=4m,mode=700"))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	cluster := postgrestest.Start(t)
	disk := cluster.SmallDisk(t, "24m")
	cluster.SQL(t, postgrestest.Superuser, "CREATE TABLESPACE small LOCATION '"+disk+"'")
	name := cluster.NewDatabase(t, "TABLESPACE small")
	for _, to := range []string{dir, cluster.URL(postgrestest.Role, name)} {
		from, want := newDir(t, 100)
		addLarge(t, from, want)
		_, err := migrateIt(t.Context(), from, to, nil)
		if err == nil || !strings.Contains(err.Error(), "the disk of "+to+" is full") || terminal.HintOf(err) == "" {
			t.Fatalf("%v", err)
		}
		must(t, openClose(t, from))
		if to != dir {
			continue
		}
		must(t, syscall.Mount("keymill-test", dir, "tmpfs", syscall.MS_REMOUNT, "size=128m,mode=700"))
		if _, err := migrateIt(t.Context(), from, to, nil); err != nil {
			t.Fatal(err)
		}
		checkMoved(t, from, to, want)
	}
}

// addLarge adds 25 MB of records.
func addLarge(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	s := openAt(t, dir)
	defer s.Close()
	for n := range 80 {
		must(t, s.Update(t.Context(), func(tx storage.Tx) error {
			for part := range 5 {
				key, value := fmt.Sprintf("large/%03d-%d", n, part), bytes.Repeat([]byte{byte(n), byte(part)}, storage.MaxValueBytes/2)
				want[key] = string(value)
				if err := tx.Put(key, value); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}
