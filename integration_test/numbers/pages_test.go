package numbers

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// pages says how well a store fills its file. The kind of a record is the first part of its key.
// Records of one kind are next to each other, so nearly every page holds one kind only.
type pages struct {
	free, branch int64 // bytes
	kinds        map[string]*kind
}

type kind struct {
	records int
	pages   int64 // bytes of the pages whose first record is of this kind
	used    int64 // bytes of those pages that hold data
}

// all returns the sum of all kinds, except those named.
func (p pages) all(but ...string) (sum kind) {
	for name, k := range p.kinds {
		if !slices.Contains(but, name) {
			sum.records, sum.pages, sum.used = sum.records+k.records, sum.pages+k.pages, sum.used+k.used
		}
	}
	return sum
}

func (k kind) fill() float64 { return 100 * float64(k.used) / float64(max(k.pages, 1)) }

func (p pages) print(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p.kinds)) {
		k := p.kinds[name]
		if k.records < 1000 {
			continue
		}
		t.Logf("%-10s %8d records  %6.1f MB in pages that are %2.0f %% full", name, k.records, mega(k.pages), k.fill())
	}
	t.Logf("branches %.1f MB, free %.1f MB", mega(p.branch), mega(p.free))
}

// readPages reads every page of the store at path, which no process has open.
func readPages(path string) (pages, error) {
	p := pages{kinds: map[string]*kind{}}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return p, err
	}
	defer db.Close()
	file, err := os.Open(path)
	if err != nil {
		return p, err
	}
	defer file.Close()
	size := int64(db.Info().PageSize)
	return p, db.View(func(tx *bbolt.Tx) error {
		for id := int64(0); id < tx.Size()/size; id++ {
			info, err := tx.Page(int(id))
			if err != nil {
				return err
			}
			switch info.Type {
			case "free":
				p.free += size
			case "branch":
				p.branch += size
			case "leaf":
				page := make([]byte, size*int64(1+info.OverflowCount))
				if _, err := file.ReadAt(page, id*size); err != nil {
					return err
				}
				p.add(page, info.Count)
				id += int64(info.OverflowCount)
			}
		}
		return nil
	})
}

// add counts one leaf page. It begins with a header of 16 bytes. Then each record has four fields of 4
// bytes: flags, the offset of its key from the first field, the size of the key and that of the
// value. The keys and values follow.
func (p pages) add(page []byte, count int) {
	const header, element = 16, 16
	used, home := int64(header), ""
	for i := range count {
		at := header + i*element
		field := func(n int) int { return int(binary.NativeEndian.Uint32(page[at+4*n:])) }
		key := page[at+field(1):][:field(2)]
		first, _, _ := bytes.Cut(key, []byte("/"))
		if p.kinds[string(first)] == nil {
			p.kinds[string(first)] = &kind{}
		}
		if i == 0 {
			home = string(first)
		}
		p.kinds[string(first)].records++
		used += element + int64(field(2)+field(3))
	}
	if k := p.kinds[home]; k != nil {
		k.pages, k.used = k.pages+int64(len(page)), k.used+used
	}
}
