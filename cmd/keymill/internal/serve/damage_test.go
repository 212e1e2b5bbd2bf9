package serve

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"keymill/storage"
)

// TestEachDamagedRecordIsLoggedOnce, whether an error names it or a read found it, and the warning
// has the number and ten names.
//
// I23.
func TestEachDamagedRecordIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	var found []*storage.DamageError
	d := damageReport{log: slog.New(slog.NewTextHandler(&log, nil)), now: func() []*storage.DamageError { return found }}
	if w := d.warnings(); len(w) != 0 {
		t.Errorf("without damage: %v", w)
	}
	found = []*storage.DamageError{{Key: "user/7", Err: storage.ErrForged}, {Key: "user/8", Err: storage.ErrForged}}
	for range 3 {
		d.add(nil)
		d.add(errors.New("something else"))
		d.add(fmt.Errorf("read: %w", storage.Damaged("family/x", "it is empty")))
		d.add(errors.Join(storage.Damaged("a", "it is empty"), fmt.Errorf("b: %w", storage.Damaged("user/7", "it is empty"))))
		d.look()
	}
	for _, key := range []string{"family/x", "a", "user/7", "user/8"} {
		if n := strings.Count(log.String(), "record="+key+" "); n != 1 {
			t.Errorf("%s has %d lines", key, n)
		}
	}
	for n := range 2 * maxDamaged {
		d.add(storage.Damaged(fmt.Sprintf("due/%d", n), "it is empty"))
	}
	if n := strings.Count(log.String(), "\n"); n != maxDamaged+1 {
		t.Errorf("%d lines, want %d", n, maxDamaged+1)
	}
	w := d.warnings()
	if len(w) != 1 || w[0].Check != "records" || !strings.Contains(w[0].Detail, "damaged records: 1000 (a, due/0,") || strings.Count(w[0].Detail, "/") > maxNamedDamaged {
		t.Errorf("warned %v", w)
	}
}
