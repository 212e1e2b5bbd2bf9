package sealed

import (
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

// CheckManifest compares the manifest with the records that it covers, or with those below
// prefixes only. Its error names the first ten that are missing, were added, are older or are
// damaged; it matches storage.ErrDamaged.
func (s *Store) CheckManifest(ctx context.Context, prefixes ...string) error {
	keys := []string{}
	if len(prefixes) == 0 {
		prefixes, keys = coveredPrefixes[:], coveredKeys[:]
	}
	for {
		err := s.checkManifest(ctx, prefixes, keys)
		if !errors.Is(err, errChanged) {
			return err
		}
	}
}

func (s *Store) checkManifest(ctx context.Context, prefixes, keys []string) error {
	m, expected, err := s.readManifest(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(expected, func(key string, _ []byte) bool {
		return !slices.Contains(keys, key) && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
	})
	c := comparison{expected: expected}
	for _, key := range keys {
		if err := s.compare(ctx, m.Version, key, key+" ", &c); err != nil {
			return err
		}
	}
	for _, prefix := range prefixes {
		if err := s.compare(ctx, m.Version, prefix, prefix+"\x7f", &c); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.expected)) {
		c.add(differs(key, c.expected[key], nil))
	}
	return errors.Join(c.found...)
}

// readManifest returns the root and the tags of all covered records.
func (s *Store) readManifest(ctx context.Context) (m *root, expected map[string][]byte, err error) {
	err = s.View(ctx, func(r storage.Reader) error {
		expected = map[string][]byte{}
		if m, err = r.(*reader).readRoot(); err != nil {
			return err
		}
		for name := range m.Pages {
			p, err := m.page(r.(*reader), name)
			if err != nil {
				return err
			}
			maps.Copy(expected, p.Records)
		}
		if len(expected) != m.Records {
			return storage.Damaged(rootKey, "it counts %d records and lists %d", m.Records, len(expected))
		}
		return nil
	})
	return m, expected, err
}

// A comparison collects what differs.
type comparison struct {
	expected map[string][]byte // key → tag, of the records not seen yet
	found    []error
}

func (c *comparison) add(err error) {
	if len(c.found) < maxFindings {
		c.found = append(c.found, err)
	}
}

// compare compares the records of one range, in Views of 1,000 records.
func (s *Store) compare(ctx context.Context, version uint64, start, end string, c *comparison) error {
	for start != "" {
		next := ""
		err := s.View(ctx, func(r storage.Reader) error {
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
				c.compare(r.(*reader), e)
				if n++; n == entriesPerView {
					next = e.Key + " "
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		start = next
	}
	return nil
}

func (c *comparison) compare(r *reader, e storage.Entry) {
	expected := c.expected[e.Key]
	delete(c.expected, e.Key)
	_, sum, err := r.verify(e.Key, e.Value)
	if err == nil {
		err = differs(e.Key, expected, sum[:])
	}
	if err != nil {
		c.add(err)
	}
}

func marshal(key string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", key, err)
	}
	return b, nil
}
