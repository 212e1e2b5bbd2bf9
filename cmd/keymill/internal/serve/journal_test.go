package serve

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

// TestSettingsFillAsManyRecordsAsTheyNeed: none is lost and none is cut that fits into a record.
func TestSettingsFillAsManyRecordsAsTheyNeed(t *testing.T) {
	many := func(n, size int) (list []config.EffectiveSetting) {
		for i := range n {
			list = append(list, config.EffectiveSetting{Key: fmt.Sprintf("setting.%d", i), Value: strings.Repeat("v", size)})
		}
		return list
	}
	store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	seen := 0
	for _, settings := range [][]config.EffectiveSetting{
		many(1, 0), many(20, 3), many(21, 3), many(100, 3), many(5, 1400), many(3, 1900),
		append(many(3, 5), config.EffectiveSetting{Key: "data", Value: strings.Repeat("é", 250)}),
	} {
		want := map[string]string{}
		for _, e := range settings {
			want[e.Key] = e.Value
		}
		err := store.Update(t.Context(), func(tx storage.Tx) error {
			for i, part := range settingParts(settings) {
				if err := audit.Append(tx, time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC), audit.Event{Action: "server.settings", Detail: part}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Chain(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		page, err := audit.Read(t.Context(), store, audit.Query{Forward: true, From: audit.Cursor{Seq: uint64(seen)}, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page.Records)
		got := map[string]string{}
		for _, r := range page.Records {
			maps.Copy(got, r.Detail)
		}
		if !maps.Equal(got, want) {
			t.Errorf("%d settings of %d bytes: got %d in %d records", len(settings), len(settings[0].Value), len(got), len(page.Records))
		}
	}
}
