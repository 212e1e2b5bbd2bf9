package issuer

import (
	"context"
	"errors"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// How many users have a password of which class is counted in the transactions that change
// one: a failed login has to take as long as the slowest class in the store, or its time
// would tell which class a name has.

const (
	schemePrefix = "scheme/"
	schemeEnd    = "scheme0" // '0' follows '/'
)

// classOf returns "" for a user without a password.
func classOf(stored refusal.Secret) string {
	if stored == "" {
		return ""
	}
	class, err := checkHash(string(stored))
	if err != nil {
		return "" // checked when it was stored; nothing matches it
	}
	return class
}

// countScheme counts one user less in before and one more in after; "" is none.
func countScheme(tx storage.Tx, before, after string) error {
	if before == after {
		return nil
	}
	for class, change := range map[string]int{before: -1, after: 1} {
		if class == "" {
			continue
		}
		if err := addCount(tx, schemePrefix+class, change); err != nil {
			return err
		}
	}
	return nil
}

// addCount changes a counted record; at 0 it goes away.
func addCount(tx storage.Tx, key string, change int) error {
	n := new(int)
	raw, err := tx.Get(key)
	if err == nil {
		n, err = decode[int](key, raw)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if *n += change; *n > 0 {
		return putJSON(tx, key, *n)
	}
	return tx.Delete(key)
}

// knowScheme lets the hasher measure a class that is in the store from now on. That it
// cannot just now is no reason to deny what is durable: Run asks again, and so does a login.
func (i *Issuer) knowScheme(ctx context.Context, class string) {
	if class != "" {
		i.hasher.know(context.WithoutCancel(ctx), class)
	}
}

// knowSchemes does so for all that are there, and forgets the others.
func (i *Issuer) knowSchemes(ctx context.Context) error {
	var classes []string
	err := i.store.View(ctx, func(r storage.Reader) error {
		classes = nil
		for e, err := range r.Scan(schemePrefix, schemeEnd) {
			if err != nil {
				return err
			}
			classes = append(classes, e.Key[len(schemePrefix):])
		}
		return nil
	})
	if err != nil {
		return err
	}
	i.hasher.keep(classes)
	for _, class := range classes {
		err = errors.Join(err, i.hasher.know(ctx, class))
	}
	return err
}
