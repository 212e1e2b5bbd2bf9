package diagnose

import (
	"strings"
	"testing"
	"time"

	"keymill/storage/postgres"
)

// TestDoctorSaysWhatAStandbyIsWorth, and what to do about one that is missing, slow or not seen.
func TestDoctorSaysWhatAStandbyIsWorth(t *testing.T) {
	near := postgres.Standby{Name: "db2", Sync: "quorum", Behind: 2048, Lag: 3 * time.Millisecond}
	for _, tt := range []struct {
		s        postgres.Server
		has, not string
	}{
		{postgres.Server{SynchronousCommit: "on"}, "none; no commit waits for a standby (synchronous_standby_names is empty)", "wait for one"},
		{postgres.Server{SynchronousCommit: "on", Standbys: []postgres.Standby{{Name: "db3", Sync: "async"}}}, "db3 (async, 0 bytes and 0s behind); no commit waits", "grant"},
		{postgres.Server{SynchronousCommit: "on", StandbyNames: "ANY 1 (db2, db3)", Standbys: []postgres.Standby{near}}, "db2 (quorum, 2.0 KiB and 3ms behind)", ";"},
		{postgres.Server{SynchronousCommit: "remote_write", StandbyNames: "db2", Standbys: []postgres.Standby{near}}, "set synchronous_commit to on", "slow"},
		{postgres.Server{SynchronousCommit: "on", StandbyNames: "db2"}, "none; no standby of synchronous_standby_names (db2) is connected, so commits wait for one", "no commit waits"},
		{postgres.Server{SynchronousCommit: "on", StandbyNames: "db2", Standbys: []postgres.Standby{{Name: "db3", Sync: "async"}}}, "(db2) is connected, so commits wait", "slow"},
		{postgres.Server{SynchronousCommit: "on", StandbyNames: "db2", Standbys: []postgres.Standby{{Name: "db2", Sync: "sync", Lag: 2 * time.Second}}}, "db2 is slow, and commits wait for it", "grant"},
		{postgres.Server{SynchronousCommit: "on", StandbyNames: "db2", Standbys: []postgres.Standby{{Name: "d\nb2", Hidden: true}}}, "(hidden); the role may not see whether they are synchronous and how far they are behind: grant it pg_read_all_stats", "connected, so"},
	} {
		got := standbyText(tt.s)
		if !strings.Contains(got, tt.has) || strings.Contains(got, tt.not) || strings.Contains(got, "\n") {
			t.Errorf("%+v: %s", tt.s, got)
		}
	}
}
