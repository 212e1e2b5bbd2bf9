package claim

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"keymill/issuer/refusal"
)

// A Mapping says which claims of a user are in the tokens of an audience, and how they are called there:
// claim of the token → claim of the user. An empty one stands for all claims of the user, as they are.
type Mapping map[string]string

// Check refuses a mapping that could not be done, together with the own claims of the audience. Each claim of the user
// is there once at most, so that a mapping does not make tokens longer.
func (m Mapping) Check(own map[string]json.RawMessage) error {
	if len(m) > maxClaims {
		return refusal.New("invalid_request", "a mapping of %d claims is too long: at most %d", len(m), maxClaims)
	}
	from := map[string]string{} // claim of the user → claim of the token
	for _, to := range slices.Sorted(maps.Keys(m)) {
		name := m[to]
		if err := checkName(to); err != nil {
			return err
		}
		if !possibleName(name) || IsReserved(name) {
			return refusal.New("invalid_request", "claim '%s' is mapped from '%.100s', which no user can have", refusal.Quoted(to), refusal.Quoted(name))
		}
		if other, twice := from[name]; twice {
			return refusal.New("invalid_request", "claims '%s' and '%s' are both mapped from '%s'", refusal.Quoted(other), refusal.Quoted(to), refusal.Quoted(name))
		}
		from[name] = to
	}
	return checkDistinct(slices.Concat(slices.Sorted(maps.Keys(own)), slices.Sorted(maps.Keys(m))))
}

// Possible reports whether Check can have accepted m, or an earlier version, which may have reserved fewer names.
func (m Mapping) Possible() bool {
	for to, from := range m {
		if !possibleName(to) || !possibleName(from) {
			return false
		}
	}
	return len(m) <= maxClaims
}

// Apply returns the claims of a user in the tokens of the audience.
func (m Mapping) Apply(user json.RawMessage) json.RawMessage {
	if len(m) == 0 || len(user) == 0 {
		return user
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(user, &all) != nil {
		return nil // cannot happen: it was checked before it was stored
	}
	mapped := make(map[string]json.RawMessage, len(m))
	for to, from := range m {
		if value, has := all[from]; has {
			mapped[to] = value
		}
	}
	if len(mapped) == 0 {
		return nil
	}
	b, err := json.Marshal(mapped)
	if err != nil {
		return nil // cannot happen either
	}
	return b
}

// Common returns a name that both objects have, in any case, or "".
func Common(a, b json.RawMessage) string {
	if len(a) == 0 || len(b) == 0 {
		return ""
	}
	other := Names(b)
	for _, name := range Names(a) {
		if slices.ContainsFunc(other, func(o string) bool { return strings.EqualFold(o, name) }) {
			return name
		}
	}
	return ""
}

// maxSeen bounds what a Seen remembers. Beyond it, it begins again.
const maxSeen = 1000

// A Seen remembers what was said, so that it is said once.
type Seen struct {
	mu   sync.Mutex
	keys map[string]bool // owned by mu
}

// First reports whether key was not asked before.
func (s *Seen) First(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[key] {
		return false
	}
	if s.keys == nil || len(s.keys) >= maxSeen {
		s.keys = map[string]bool{}
	}
	s.keys[key] = true
	return true
}
