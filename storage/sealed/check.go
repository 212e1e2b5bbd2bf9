package sealed

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"keymill/storage"
)

// errChanged means that the manifest changed between two Views of a comparison.
var errChanged = errors.New("the manifest changed")

const (
	entriesPerView = 1000
	maxFindings    = 10
)

// CheckManifest compares the manifest with the records that it covers. Its error names the first ten
// that are missing, were added, are older or are damaged; it matches storage.ErrDamaged. It reads 1,000
// records in one View, and begins again if the manifest changes in between.
func (s *Store) CheckManifest(ctx context.Context) error {
	for {
		err := s.checkManifest(ctx)
		if !errors.Is(err, errChanged) {
			return err
		}
	}
}

func (s *Store) checkManifest(ctx context.Context) (err error) {
	var m *root
	var c comparison
	err = s.View(ctx, func(r storage.Reader) error {
		m, c.expected, err = r.(*reader).readManifest()
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range coveredKeys {
		if err := s.compare(ctx, m.Version, key, storage.After(key), &c); err != nil {
			return err
		}
	}
	for _, prefix := range coveredPrefixes {
		if err := s.compare(ctx, m.Version, prefix, storage.EndOf(prefix), &c); err != nil {
			return err
		}
	}
	return c.result()
}

// ReadBelow compares the manifest with the records below prefixes only, which end in a slash, and returns
// these records. There must be few of them: it reads them in one View.
func (s *Store) ReadBelow(ctx context.Context, prefixes ...string) (records []storage.Entry, err error) {
	var c comparison
	err = s.View(ctx, func(r storage.Reader) (err error) {
		records, c = nil, comparison{}
		if _, c.expected, err = r.(*reader).readManifest(); err != nil {
			return err
		}
		maps.DeleteFunc(c.expected, func(key string, _ []byte) bool {
			return !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
		})
		for _, prefix := range prefixes {
			for e, err := range r.(*reader).base.Scan(prefix, storage.EndOf(prefix)) {
				if err != nil {
					return err
				}
				records = append(records, storage.Entry{Key: e.Key, Value: c.compare(r.(*reader), e)})
			}
		}
		return nil
	})
	if err = cmp.Or(err, c.result()); err != nil {
		return nil, err
	}
	return records, nil
}

// readManifest returns the root and the tags of all covered records.
func (r *reader) readManifest() (m *root, expected map[string][]byte, err error) {
	if m, err = r.readRoot(); err != nil {
		return nil, nil, err
	}
	expected = map[string][]byte{}
	for name := range m.Pages {
		p, err := m.page(r, name)
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(expected, p.Records)
	}
	if len(expected) != m.Records {
		return nil, nil, storage.Damaged(rootKey, "it counts %d records and lists %d", m.Records, len(expected))
	}
	return m, expected, nil
}

// A comparison collects what differs. Each run of a function makes its own.
type comparison struct {
	expected map[string][]byte // key → tag, of all records
	seen     []string
	found    []error
}

// append adds what a run of the next page has found.
func (c *comparison) append(page comparison) {
	c.seen = append(c.seen, page.seen...)
	for _, err := range page.found {
		c.add(err)
	}
}

func (c *comparison) add(err error) {
	if len(c.found) < maxFindings {
		c.found = append(c.found, err)
	}
}

// result returns what differs, also the records that were not seen.
func (c *comparison) result() error {
	for _, key := range c.seen {
		delete(c.expected, key)
	}
	for _, key := range slices.Sorted(maps.Keys(c.expected)) {
		c.add(differs(key, c.expected[key], nil))
	}
	var all error
	for _, err := range c.found {
		if all != nil {
			err = fmt.Errorf("%w; %w", all, err)
		}
		all = err
	}
	return all
}

// compare compares the records of one range, in Views of 1,000 records.
func (s *Store) compare(ctx context.Context, version uint64, start, end string, c *comparison) error {
	for start != "" {
		var next string
		var page comparison
		err := s.View(ctx, func(r storage.Reader) error {
			next, page = "", comparison{expected: c.expected}
			if v, err := ManifestVersion(r); err != nil {
				return err
			} else if v != version {
				return errChanged
			}
			n := 0
			for e, err := range r.(*reader).base.Scan(start, end) {
				if err != nil {
					return err
				}
				page.compare(r.(*reader), e)
				if n++; n == entriesPerView {
					next = storage.After(e.Key)
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.append(page)
		start = next
	}
	return nil
}

// compare compares one record with its entry, and returns its value.
func (c *comparison) compare(r *reader, e storage.Entry) []byte {
	c.seen = append(c.seen, e.Key)
	value, sum, err := r.verify(e.Key, e.Value)
	if err == nil {
		err = differs(e.Key, c.expected[e.Key], sum[:])
	}
	if err != nil {
		c.add(err)
	}
	return value
}

func marshal(key string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", key, err)
	}
	return b, nil
}
