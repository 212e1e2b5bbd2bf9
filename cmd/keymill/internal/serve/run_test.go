package serve

import (
	"testing"
	"time"
)

// docs/operate.md names these bounds. A supervisor that gives a process ten seconds to stop must
// never have to kill it.
func TestAStopFitsTheTimeThatTheDocumentsName(t *testing.T) {
	if DrainTime >= stopLimit || stopLimit+flushTime >= 10*time.Second {
		t.Errorf("requests may take %v, the stop %v and the log %v, want less than the stop and less than 10s", DrainTime, stopLimit, flushTime)
	}
	if serve := failedServeTime + failedDrainTime; serve >= failedStopLimit || failedStopLimit+flushTime >= 5*time.Second {
		t.Errorf("after a failure of the store, serving takes %v, the stop %v and the log %v, want less than the stop and less than 5s", serve, failedStopLimit, flushTime)
	}
}
