package password

import (
	"context"
	"errors"
	"strings"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// The store counts how many passwords have each class of hash, in the transactions that change a
// password. A failed login must take as long as the slowest class in the store. Otherwise its time
// would reveal the class of a user's hash.

const (
	countPrefix = "scheme/"
	countEnd    = "scheme0" // '0' follows '/'
)

// Class returns the class of a stored hash, "" if there is none.
func Class(stored refusal.Secret) string {
	if stored == "" {
		return ""
	}
	class, err := CheckHash(string(stored))
	if err != nil {
		return "" // it was checked before it was stored, so a newer version wrote it; nothing matches it
	}
	return class
}

// Count counts one user less in the class before and one more in the class after; "" is none.
func Count(tx storage.Tx, before, after string) error {
	if before == after {
		return nil
	}
	for class, change := range map[string]int{before: -1, after: 1} {
		if class == "" {
			continue
		}
		if err := record.AddCount(tx, countPrefix+class, change); err != nil {
			return err
		}
	}
	return nil
}

// CheckCount returns an error that matches storage.ErrDamaged unless this package writes such a record
// under key.
func CheckCount(key string, raw []byte) error {
	if _, err := parseClass(strings.TrimPrefix(key, countPrefix)); err != nil {
		return storage.Damaged(key, "its name is not a class of password hashes")
	}
	_, err := record.Decode(key, raw, record.PossibleCount)
	return err
}

// SyncClasses measures the classes that the store has and h does not know, and forgets those that
// no user has.
func (h *Hasher) SyncClasses(ctx context.Context, s storage.Store) error {
	var classes []string
	err := s.View(ctx, func(r storage.Reader) error {
		classes = nil
		for e, err := range r.Scan(countPrefix, countEnd) {
			if err != nil && !errors.Is(err, storage.ErrDamaged) {
				return err // of the store: there is no key
			}
			class := e.Key[len(countPrefix):]
			if err != nil {
				// Only the number cannot be trusted. The class counts: without it the time of a
				// failed login could reveal who has it.
				if _, impossible := parseClass(class); impossible != nil {
					continue
				}
			}
			classes = append(classes, class)
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.keepClasses(classes)
	for _, class := range classes {
		err = errors.Join(err, h.AddClass(ctx, class))
	}
	return err
}
