package bolt

import (
	"context"
	"strings"

	"keymill/storage"
)

// maxNames bounds how many buckets of other programs are named.
const maxNames = 10

// CheckUnused returns what is wrong in the parts of the file that no record depends on: buckets of other
// programs. The store works without them, so Open does not refuse them. The error matches storage.ErrBroken.
func (s *Store) CheckUnused(ctx context.Context) error {
	tx, err := s.beginRead(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var found []string
	err = s.guard(func() error {
		names, err := otherBuckets(pagesOf(tx), rootOf(tx))
		if len(names) > 0 {
			found = append(found, "the file has buckets that Keymill does not write and does not read: "+strings.Join(names, ", "))
		}
		return err
	})
	if err == nil && len(found) > 0 {
		err = damaged("%s", strings.Join(found, "; "))
	}
	return err
}

// otherBuckets names the buckets beside that of the records.
func otherBuckets(p pages, root uint64) (names []string, err error) {
	next := tree{pages: p, root: root, buckets: true}.scanner("")
	for {
		key, _, err := next()
		switch {
		case err != nil || key == "":
			return names, err
		case key == bucketName:
		case len(names) == maxNames:
			return append(names, "…"), nil
		default:
			names = append(names, storage.QuoteKey(key))
		}
	}
}
