package endpoint

import (
	"testing"

	"keymill/issuer/api"
)

// TestAdminAPIShowsTheSettings that the server has at that moment, and an empty list if it tells none.
func TestAdminAPIShowsTheSettings(t *testing.T) {
	if list := newWorld(t).expect(200, "GET", "/admin/v1/settings", "").body; list != "[]" {
		t.Errorf("listed %s", list)
	}
	now := []api.Setting{{Name: "log.level", Value: "info", Source: "default"}}
	w := newWorldAt(t, testIssuer, func(c *Config) { c.Settings = func() []api.Setting { return now } })
	for _, level := range []string{"info", "debug"} {
		now[0].Value = level
		want := `[{"name":"log.level","value":"` + level + `","source":"default"}]`
		if list := w.expect(200, "GET", "/admin/v1/settings", "").body; list != want {
			t.Errorf("listed %s, want %s", list, want)
		}
	}
}
