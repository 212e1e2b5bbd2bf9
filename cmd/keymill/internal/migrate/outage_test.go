package migrate

import (
	"strings"
	"testing"
	"time"

	"keymill/storage/postgres/postgrestest"
)

// TestATargetThatCrashesLosesNothing: it is killed while records are copied or compared. If it comes back in time the
// migration goes on. If not, the source is free, and the same command ends the migration.
func TestATargetThatCrashesLosesNothing(t *testing.T) {
	cluster := postgrestest.Start(t)
	for at, back := range map[string]bool{"copy": true, "compare": false} {
		from, want := newDir(t, 8_000)
		to := cluster.Database(t)
		crashed, begun := make(chan struct{}), false
		_, err := migrateIt(t.Context(), from, to, func(name string) error {
			if begun {
				<-crashed // not later than at the end of the step
			}
			if name != at {
				return nil
			}
			begun = true
			if !back { // the step must not end before
				defer close(crashed)
				cluster.Stop(postgrestest.Immediate)
				return nil
			}
			go func() {
				defer close(crashed)
				time.Sleep(20 * time.Millisecond) // it is in the middle of the step then
				cluster.Stop(postgrestest.Immediate)
				cluster.Begin(t)
			}()
			return nil
		})
		<-crashed
		if back != (err == nil) {
			t.Fatalf("killed at %s, back %t: %v", at, back, err)
		}
		if !back {
			if strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "PostgreSQL keymill@") {
				t.Errorf("%v", err)
			}
			must(t, openClose(t, from))
			cluster.Begin(t)
			_, err = migrateIt(t.Context(), from, to, nil)
			must(t, err)
		}
		checkMoved(t, from, to, want)
	}
}
