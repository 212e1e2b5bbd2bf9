package endpoint

import (
	"context"
	"io"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// TestAMigrationThroughTheAdminAPI: the steps and the records of a store that is being moved, on the socket.
func TestAMigrationThroughTheAdminAPI(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) {
		c.Migrate = func(_ context.Context, q api.MigrationRequest, by string) (api.Migration, error) {
			if q.Step == "finish" {
				return api.Migration{}, refusal.New("in_use", "another run has the source")
			}
			return api.Migration{Database: q.Run, State: "moving", Beat: q.Over}, nil
		}
		c.Records = func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "records")
			return err
		}
	})
	m := w.expect(200, "POST", "/admin/v1/migration", `{"step":"begin","run":"r","from":"/a","to":"/b","over":3}`).json(t)
	if m["database_id"] != "r" || m["state"] != "moving" || m["beat"] != 3.0 {
		t.Errorf("%v", m)
	}
	if code := w.expect(409, "POST", "/admin/v1/migration", `{"step":"finish"}`).code(t); code != "in_use" {
		t.Errorf("code %s", code)
	}
	w.expect(400, "POST", "/admin/v1/migration", `{"stop":"finish"}`)
	if a := w.expect(200, "POST", "/admin/v1/migration/records", ""); a.body != "records" {
		t.Errorf("%q", a.body)
	}
}
