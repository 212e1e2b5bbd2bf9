package nodes

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"keymill/storage"
)

const (
	maxIDBytes    = 32
	maxTextBytes  = 100
	maxAlgorithms = 16
)

// A nodeRecord is a record node/<id>.
type nodeRecord struct {
	Beats       uint64        `json:"beats"`
	Time        time.Time     `json:"time"`
	Started     time.Time     `json:"started"`
	Algorithms  []string      `json:"algorithms"` // sorted
	MaxAge      time.Duration `json:"max_age"`
	Propagation time.Duration `json:"propagation"`
	RotateEvery time.Duration `json:"rotate_every"`
	Keys        uint64        `json:"keys"`
	Generation  int           `json:"generation"`
	Version     string        `json:"version"`
	Host        string        `json:"host"`
}

func encode(n Node) ([]byte, error) {
	return json.Marshal(nodeRecord{
		n.Beats, n.Time, n.Started, n.Algorithms, n.MaxAge, n.Propagation, n.RotateEvery, n.Keys, n.Generation, n.Version, n.Host,
	})
}

func decode(key string, raw []byte) (Node, error) {
	var rec nodeRecord
	if err := storage.DecodeJSON(key, raw, &rec); err != nil {
		return Node{}, err
	}
	id := strings.TrimPrefix(key, nodePrefix)
	if !validID(id) || !rec.possible() {
		return Node{}, storage.Damaged(key, "its name or a value is impossible")
	}
	return Node{id, rec.Beats, rec.Time, rec.Started, Facts{
		rec.Algorithms, rec.MaxAge, rec.Propagation, rec.RotateEvery, rec.Keys, rec.Generation, rec.Version, rec.Host,
	}}, nil
}

func (rec *nodeRecord) possible() bool {
	return rec.Beats > 0 && storage.PossibleTime(rec.Time) && storage.PossibleTime(rec.Started) &&
		rec.Algorithms != nil && len(rec.Algorithms) <= maxAlgorithms && slices.IsSorted(rec.Algorithms) &&
		!slices.ContainsFunc(rec.Algorithms, func(alg string) bool { return alg == "" || clean(alg) != alg }) &&
		rec.MaxAge >= 0 && rec.Propagation >= 0 && rec.RotateEvery >= 0 && rec.Generation >= 0 && clean(rec.Version) == rec.Version && clean(rec.Host) == rec.Host
}

// readRecord returns the node under key.
func readRecord(rd storage.Reader, key string) (Node, error) {
	raw, err := rd.Get(key)
	if err != nil {
		return Node{}, err
	}
	return decode(key, raw)
}

// clean returns the facts as a record holds them.
func (f Facts) clean() Facts {
	f.Algorithms = append([]string{}, f.Algorithms...)
	slices.Sort(f.Algorithms)
	f.Version, f.Host = clean(f.Version), clean(f.Host)
	return f
}

// clean returns text as printable ASCII of at most maxTextBytes.
func clean(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
	return s[:min(len(s), maxTextBytes)]
}

func validID(id string) bool {
	return len(id) > 0 && len(id) <= maxIDBytes && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
	})
}

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a record
// under key.
func CheckRecord(key string, raw []byte) error {
	if strings.HasPrefix(key, leasePrefix) {
		_, err := decodeLease(key, raw)
		return err
	}
	_, err := decode(key, raw)
	return err
}
