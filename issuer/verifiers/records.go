package verifiers

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"keymill/issuer/record"
	"keymill/storage"
)

const (
	namePrefix   = "verifier/name/"
	secretPrefix = "verifier/secret/"
	secretKey    = secretPrefix + "001"
	servedPrefix = "served/"
	behindKey    = "behind"

	maxRead = 1000 // records of a kind
)

func nameKey(name string) string   { return namePrefix + name }
func servedKey(name string) string { return servedPrefix + name }

// A nameRecord is a record verifier/name/<name>.
type nameRecord struct {
	Added time.Time `json:"added"`
	By    string    `json:"by"`
}

func (rec *nameRecord) possible() bool { return record.PossibleSecond(rec.Added) }

// A servedRecord is a record served/<name>.
type servedRecord struct {
	Last      time.Time        `json:"last"`
	Up        time.Duration    `json:"up,omitzero"` // Last, as served time
	KIDs      []string         `json:"kids"`        // sorted
	Intervals []storedInterval `json:"intervals"`   // the shorter first
}

// A storedInterval is a bucket of a habit.
type storedInterval struct {
	Seconds float64 `json:"seconds"`
	Visits  float64 `json:"visits"`
}

// negligible is the weight below which an interval is not stored.
const negligible = 0.001

func (p *pinned) record() servedRecord {
	rec := servedRecord{Last: p.last.UTC().Truncate(time.Second), Up: p.lastUp.Truncate(time.Second), KIDs: p.kids.all(), Intervals: []storedInterval{}}
	for _, b := range p.habit.buckets {
		if s := (storedInterval{rounded(b.seconds), rounded(b.visits)}); s.Seconds >= negligible && s.Visits >= negligible {
			rec.Intervals = append(rec.Intervals, s)
		}
	}
	return rec
}

func rounded(x float64) float64 { return math.Round(x*1e6) / 1e6 }

func (rec *servedRecord) possible() bool {
	if !record.PossibleSecond(rec.Last) || rec.Up < 0 || rec.Intervals == nil || len(rec.Intervals) > buckets {
		return false
	}
	for _, s := range rec.Intervals {
		if s.Seconds < negligible || s.Visits < negligible || s.Seconds > math.MaxInt32 || s.Seconds/s.Visits > 1.01*maxInterval.Seconds() {
			return false
		}
	}
	return record.PossibleList(rec.KIDs, math.MaxInt, func(kid string) bool { return kid != "" })
}

// habit returns the intervals of a record. One that rounding has moved over a bound is in the next bucket.
func (rec *servedRecord) habit() (h habit) {
	for _, s := range rec.Intervals {
		b := &h.buckets[bucketOf(time.Duration(s.Seconds/s.Visits*float64(time.Second)))]
		b.seconds += s.Seconds
		b.visits += s.Visits
	}
	return h
}

// A behindRecord is the record behind: alg → kid of the spare of which Run has warned.
type behindRecord map[string]string

func (rec *behindRecord) possible() bool { return len(*rec) > 0 }

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a record
// under key. The value of the secret is sealed and is checked when it is opened.
func CheckRecord(key string, raw []byte) (err error) {
	named := false
	switch {
	case strings.HasPrefix(key, namePrefix):
		named = validName(strings.TrimPrefix(key, namePrefix))
		_, err = record.Decode(key, raw, (*nameRecord).possible)
	case strings.HasPrefix(key, servedPrefix):
		named = validName(strings.TrimPrefix(key, servedPrefix))
		_, err = record.Decode(key, raw, (*servedRecord).possible)
	case key == behindKey:
		named = true
		_, err = record.Decode(key, raw, (*behindRecord).possible)
	case key == secretKey:
		return nil
	}
	if err == nil && !named {
		err = storage.Damaged(key, "no such record has this name")
	}
	return err
}

// load reads the records. One that is damaged is passed to Damaged and counts as missing, except the secret.
func (r *Registry) load(ctx context.Context) error {
	var secret []byte
	err := record.View(ctx, r.cfg.Store, r.cfg.Damaged, func(tx storage.Reader, setAside func(error)) (err error) {
		r.pinned, r.warned, r.noBehind = map[string]*pinned{}, map[string]string{}, false
		if secret, err = tx.Get(secretKey); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := r.loadNames(tx, setAside); err != nil {
			return err
		}
		if err := r.loadServed(tx, setAside); err != nil {
			return err
		}
		return r.loadBehind(tx, setAside)
	})
	if err != nil {
		return err
	}
	if secret == nil {
		if len(r.pinned) > 0 {
			return storage.Damaged(secretKey, "it is missing, although verifiers are pinned")
		}
		return nil
	}
	return r.useSecret(secret)
}

// useSecret opens the secret, and makes the tags of all verifiers.
func (r *Registry) useSecret(sealed []byte) error {
	secret, err := r.cfg.Keys.Vault().Open(secretKey, sealed)
	if err != nil {
		return err
	}
	if len(secret) != secretBytes {
		return storage.Damaged(secretKey, "it has %d bytes instead of %d", len(secret), secretBytes)
	}
	r.tags = newTagger(secret, r.cfg.Keys.DatabaseID())
	for _, p := range r.pinned {
		p.tag = (*r.tags)(p.name)
	}
	return nil
}

func (r *Registry) loadNames(tx storage.Reader, setAside func(error)) error {
	span := record.Span{Prefix: namePrefix, Limit: maxRead}
	return span.Each(tx, setAside, func(name string, raw []byte) error {
		if err := CheckRecord(nameKey(name), raw); err != nil {
			return err
		}
		rec, err := record.Decode(nameKey(name), raw, (*nameRecord).possible)
		if err == nil {
			r.pinned[name] = &pinned{name: name, added: rec.Added}
		}
		return err
	})
}

func (r *Registry) loadServed(tx storage.Reader, setAside func(error)) error {
	damaged := func(err error) {
		setAside(err)
		if named := (*storage.DamageError)(nil); errors.As(err, &named) {
			if p := r.pinned[strings.TrimPrefix(named.Key, servedPrefix)]; p != nil {
				p.damaged = true
			}
		}
	}
	span := record.Span{Prefix: servedPrefix, Limit: maxRead}
	return span.Each(tx, damaged, func(name string, raw []byte) error {
		rec, err := record.Decode(servedKey(name), raw, (*servedRecord).possible)
		if err != nil {
			return err
		}
		p := r.pinned[name]
		if p == nil {
			return storage.Damaged(servedKey(name), "no verifier has this name")
		}
		kids := kidList(slices.Clone(rec.KIDs))
		p.kids, p.last, p.lastUp, p.stored, p.habit = &kids, rec.Last, rec.Up, rec.Last, rec.habit()
		return nil
	})
}

func (r *Registry) loadBehind(tx storage.Reader, setAside func(error)) error {
	raw, err := tx.Get(behindKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	var rec *behindRecord
	if err == nil {
		rec, err = record.Decode(behindKey, raw, (*behindRecord).possible)
	}
	switch {
	case err == nil:
		r.warned = *rec
	case record.Unreadable(err):
		setAside(err)
		r.noBehind, err = true, nil
	}
	return err
}

func putJSON(tx storage.Tx, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, b)
}
