package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"keymill/storage"
)

// maxNames bounds how many buckets of other programs are named.
const maxNames = 10

// CheckUnused returns what is wrong in the parts of the file that no record depends on: the meta page that
// is not in use, the headers of both, and buckets of other programs. The store works without them, so Open
// does not refuse them. The error matches storage.ErrBroken.
func (s *Store) CheckUnused(ctx context.Context) error {
	tx, err := s.beginRead(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var found []string
	err = s.guard(func() error {
		p := pagesOf(tx)
		found = p.metaFaults()
		names, err := otherBuckets(p, rootOf(tx))
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

// metaFaults says what is wrong with the two meta pages. The one in use has a checksum that fits. bbolt
// writes each of them as a whole, and reads their headers only when it checks the file.
func (p pages) metaFaults() (faults []string) {
	for n := range firstPage {
		b := p.bytes[n*p.size:][:p.size]
		const then = "nothing is lost, and the server writes it again with one of its next two changes"
		if _, valid := parseMeta(b); !valid {
			faults = append(faults, fmt.Sprintf("meta page %d is damaged, and the other one is in use: %s", n, then))
		} else if !isMetaHeader(b, n) {
			faults = append(faults, fmt.Sprintf("the header of meta page %d is damaged: %s", n, then))
		}
	}
	if !p.metaHeaders() {
		faults = append(faults, "bbolt's own check of the pages, which needs both headers, was left out")
	}
	return faults
}

// isMetaHeader reports whether a page begins with the header of meta page n.
func isMetaHeader(b []byte, n int) bool {
	order := binary.NativeEndian
	return order.Uint64(b) == uint64(n) && order.Uint16(b[8:]) == flagMeta && order.Uint16(b[10:]) == 0 && order.Uint32(b[12:]) == 0
}

// metaHeaders reports whether both meta pages have their headers, without which bbolt's check panics.
func (p pages) metaHeaders() bool {
	return isMetaHeader(p.bytes, 0) && isMetaHeader(p.bytes[p.size:], 1)
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
