package revoked

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"keymill/storage"
)

const tombstonesPerView = 1000

// All returns what the tombstones below prefix say. Those of keys that were dropped have no time of a revocation.
func All(ctx context.Context, s storage.Store, prefix string) ([]Revocation, error) {
	var all []Revocation
	for start := prefix; start != ""; {
		var page []Revocation
		var next string
		err := s.View(ctx, func(tx storage.Reader) error {
			page, next = nil, ""
			n := 0
			for e, err := range tx.Scan(start, storage.EndOf(prefix)) {
				if err != nil {
					return err
				}
				var t struct {
					Revoked time.Time `json:"revoked"`
				}
				if json.Unmarshal(e.Value, &t) == nil && !t.Revoked.IsZero() {
					page = append(page, Revocation{KID: strings.TrimPrefix(e.Key, prefix), At: t.Revoked})
				}
				if n++; n == tombstonesPerView {
					next = storage.After(e.Key)
					break
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		all, start = append(all, page...), next
	}
	return all, nil
}
