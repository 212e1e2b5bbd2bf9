package serve

import (
	"slices"
	"sync/atomic"

	"keymill/cmd/keymill/internal/config"
	"keymill/issuer/api"
)

// settingsInUse are the settings that the server uses, for the admin API.
type settingsInUse struct{ list atomic.Pointer[[]api.Setting] }

// shown returns the list. The caller must not change it.
func (s *settingsInUse) shown() []api.Setting { return *s.list.Load() }

// use takes all settings of c, at the start.
func (s *settingsInUse) use(c *config.Config) {
	var list []api.Setting
	for _, e := range c.Effective() {
		list = append(list, api.Setting{Name: e.Key, Value: e.Value, Source: e.Source})
	}
	s.list.Store(&list)
}

// replace takes the settings that a reload has applied. Another one stays as it was, with its source, because the
// server still uses it.
func (s *settingsInUse) replace(next *config.Config, applied []string) {
	list := slices.Clone(s.shown())
	for i, e := range next.Effective() { // in the same order
		if slices.Contains(applied, e.Key) {
			list[i] = api.Setting{Name: e.Key, Value: e.Value, Source: e.Source}
		}
	}
	s.list.Store(&list)
}
