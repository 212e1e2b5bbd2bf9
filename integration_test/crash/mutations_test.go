package crash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// A mutant is one changed store.
type mutant struct {
	kind, what  string
	store, mark []byte // no mark: the file is missing
	logins      bool   // ask for logins too, which are slow
	outside     bool   // its mark was removed together with what makes the store older
	together    bool   // its mark is an older one of the same time
	change      bool   // every record differs, because the master key was changed
}

// evilSecret is a client secret of an attacker.
const evilSecret = "kms_attackerattackerattackerattackerattacker"

// A breeder makes mutants.
type breeder struct {
	*lived
	random *mathrand.Rand
	dir    string
}

// A mutation is one kind of change. change returns what it did, for the message of a failure.
type mutation struct {
	name   string
	weight int
	change func(b *breeder, m *mutant) (what string, err error)
}

var mutations = []mutation{
	{"bit of a page in use", 8, flipInPage},
	{"bit of a value", 4, edit(flipInValue)},
	{"values of one kind swapped", 2, edit(swapSameKind)},
	{"values of two kinds swapped", 2, edit(swapKinds)},
	{"key renamed", 2, edit(rename)},
	{"tail of a value cut", 2, edit(cutValue)},
	{"tail of the file cut", 1, cutFile},
	{"record deleted", 3, edit(remove)},
	{"record inserted, with a tag of another", 2, edit(insertCopy)},
	{"record forged by an attacker", 4, edit(forge)},
	{"pages swapped", 2, swapPages},
	{"meta pages swapped or one lost", 1, swapMetas},
	{"older page", 2, olderPage},
	{"older record", 3, edit(olderRecord)},
	{"older record with its manifest", 2, edit(olderManifest)},
	{"older record, manifest and clock", 1, edit(olderClock)},
	{"older store, newer mark", 1, olderStore},
	{"older store without its mark", 1, olderWithoutMark},
	{"older store and mark together", 1, olderWithMark},
	{"mark lost or damaged", 1, damageMark},
}

// schedule returns the mutation of each turn, so that few turns have every kind.
func schedule() (turns []mutation) {
	for n := range 8 {
		for _, m := range mutations {
			if n < m.weight {
				turns = append(turns, m)
			}
		}
	}
	return turns
}

// breed makes one mutant.
func (b *breeder) breed(turn mutation) (*mutant, error) {
	m := &mutant{kind: turn.name, store: slices.Clone(b.final.store), mark: slices.Clone(b.final.mark)}
	what, err := turn.change(b, m)
	m.what = turn.name + ": " + what
	every := 16 // a login hashes a password, which costs more than all other requests
	if strings.Contains(turn.name, "page") {
		every = 8 // a page can hold records of users
	}
	m.logins = b.random.IntN(every) == 0 || strings.Contains(what, "user/") || strings.Contains(what, "login/")
	return m, err
}

// edit makes a mutation of one that changes records.
func edit(change func(b *breeder, records map[string]string) string) func(*breeder, *mutant) (string, error) {
	return func(b *breeder, m *mutant) (string, error) {
		records := maps.Clone(b.final.records)
		what := change(b, records)
		store, err := b.write(m.store, b.final.records, records)
		m.store = store
		return what, err
	}
}

// write returns the file with other records.
func (b *breeder) write(file []byte, before, after map[string]string) ([]byte, error) {
	path := filepath.Join(b.dir, storeName)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			for key := range before {
				if _, ok := after[key]; !ok {
					if err := bucket.Delete([]byte(key)); err != nil {
						return err
					}
				}
			}
			for key, value := range after {
				if v, ok := before[key]; !ok || v != value {
					if err := bucket.Put([]byte(key), []byte(value)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
	if err := db.Close(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// kindOf returns the kind of a record: its key up to the last part that names one.
func kindOf(key string) string {
	for _, deep := range []string{"refresh/secret/", "verifier/secret/", "verifier/name/", "audit/new/", "audit/log/"} {
		if strings.HasPrefix(key, deep) {
			return deep
		}
	}
	kind, _, found := strings.Cut(key, "/")
	if found {
		kind += "/"
	}
	return kind
}

// pick returns a key, every kind equally often.
func (b *breeder) pick(keys []string) string {
	kinds := map[string][]string{}
	for _, key := range keys {
		kinds[kindOf(key)] = append(kinds[kindOf(key)], key)
	}
	names := slices.Sorted(maps.Keys(kinds))
	of := kinds[names[b.random.IntN(len(names))]]
	slices.Sort(of)
	return of[b.random.IntN(len(of))]
}

func (b *breeder) any(records map[string]string) string {
	return b.pick(slices.Collect(maps.Keys(records)))
}

func (b *breeder) flip(data []byte) int {
	bit := b.random.IntN(8 * len(data))
	data[bit/8] ^= 1 << (bit % 8)
	return bit
}

func flipInPage(b *breeder, m *mutant) (string, error) {
	page := b.final.pages[b.random.IntN(len(b.final.pages))]
	bytes := m.store[page*4096 : (page+1)*4096]
	switch b.random.IntN(4) {
	case 0: // its header and the first elements, or the used part of a meta page
		return fmt.Sprintf("page %d, bit %d", page, b.flip(bytes[:96])), nil
	case 1:
		return fmt.Sprintf("page %d, bit %d", page, b.flip(bytes)), nil
	}
	for used := 0; ; { // a byte that is used
		bit := b.random.IntN(8 * len(bytes))
		if used++; bytes[bit/8] != 0 || used > 100 {
			bytes[bit/8] ^= 1 << (bit % 8)
			return fmt.Sprintf("page %d, bit %d", page, bit), nil
		}
	}
}

func flipInValue(b *breeder, records map[string]string) string {
	key := b.any(records)
	value := []byte(records[key])
	bit := b.flip(value)
	records[key] = string(value)
	return fmt.Sprintf("%s, bit %d", key, bit)
}

func swapSameKind(b *breeder, records map[string]string) string {
	for range 100 {
		one := b.any(records)
		var others []string
		for key, value := range records {
			if kindOf(key) == kindOf(one) && value != records[one] {
				others = append(others, key)
			}
		}
		if len(others) > 0 {
			other := b.pick(others)
			records[one], records[other] = records[other], records[one]
			return one + " and " + other
		}
	}
	return "nothing"
}

func swapKinds(b *breeder, records map[string]string) string {
	one, other := b.any(records), b.any(records)
	records[one], records[other] = records[other], records[one]
	return one + " and " + other
}

func rename(b *breeder, records map[string]string) string {
	key := b.any(records)
	name := []byte(key)
	at := b.random.IntN(len(name))
	name[at] = "abcdefghijklmnopqrstuvwxyz0123456789"[b.random.IntN(36)]
	if string(name) == key {
		name = append(name, '0')
	}
	records[string(name)] = records[key]
	delete(records, key)
	return key + " to " + string(name)
}

func cutValue(b *breeder, records map[string]string) string {
	key := b.any(records)
	n := 1 + b.random.IntN(min(40, len(records[key])))
	records[key] = records[key][:len(records[key])-n]
	return fmt.Sprintf("%s by %d bytes", key, n)
}

func cutFile(b *breeder, m *mutant) (string, error) {
	last := slices.Max(b.final.pages)
	size := (1+b.random.IntN(last))*4096 + b.random.IntN(2)*b.random.IntN(4096)
	m.store = m.store[:size]
	return fmt.Sprintf("to %d bytes", size), nil
}

func remove(b *breeder, records map[string]string) string {
	key := b.any(records)
	delete(records, key)
	return key
}

func insertCopy(b *breeder, records map[string]string) string {
	from, beside := b.any(records), b.any(records)
	if b.random.IntN(2) == 0 {
		from = beside
	}
	records[beside+"x"] = records[from]
	return beside + "x with the value of " + from
}

func swapPages(b *breeder, m *mutant) (string, error) {
	pages := b.final.pages[2:]
	one, other := pages[b.random.IntN(len(pages))], pages[b.random.IntN(len(pages))]
	first, second := m.store[one*4096:(one+1)*4096], m.store[other*4096:(other+1)*4096]
	kept := slices.Clone(first)
	copy(first, second)
	copy(second, kept)
	ids := b.random.IntN(2) == 0 // an attacker mends the numbers
	if ids {
		binary.LittleEndian.PutUint64(first, uint64(one))
		binary.LittleEndian.PutUint64(second, uint64(other))
	}
	return fmt.Sprintf("%d and %d, numbers mended: %t", one, other, ids), nil
}

func swapMetas(b *breeder, m *mutant) (string, error) {
	first, second := m.store[:4096], m.store[4096:8192]
	switch b.random.IntN(4) {
	case 0:
		kept := slices.Clone(first)
		copy(first, second)
		copy(second, kept)
		return "swapped", nil
	case 1:
		copy(first, second)
		return "the second twice", nil
	case 2:
		copy(second, first)
		return "the first twice", nil
	}
	f, err := readStoreFile(m.store)
	if err != nil {
		return "", err
	}
	newest := m.store[f.meta*4096+pageHeaderBytes:]
	if b.random.IntN(2) == 0 {
		clear(newest[:64])
		return "the newest cleared", nil
	}
	root := binary.LittleEndian.Uint64(newest[16:])
	binary.LittleEndian.PutUint64(newest[16:], root+1) // with a sum that fits
	sum := fnv.New64a()
	sum.Write(newest[:metaSumAt])
	binary.LittleEndian.PutUint64(newest[metaSumAt:], sum.Sum64())
	return "the newest with another root", nil
}

func (b *breeder) stage() stage { return b.older[b.random.IntN(len(b.older))] }

func olderPage(b *breeder, m *mutant) (string, error) {
	s := b.stage()
	for range 1000 {
		page := b.final.pages[b.random.IntN(len(b.final.pages))]
		if (page+1)*4096 > len(s.store) {
			continue
		}
		now, then := m.store[page*4096:(page+1)*4096], s.store[page*4096:(page+1)*4096]
		if !bytes.Equal(now, then) {
			copy(now, then)
			return fmt.Sprintf("page %d", page), nil
		}
	}
	return "nothing", nil
}

// putBack puts one record back as it was in an older stage, or removes one that is newer.
func (b *breeder) putBack(s stage, records map[string]string, also ...string) string {
	var keys []string
	for key, value := range s.records {
		if records[key] != value && kindOf(key) != "manifest/" && key != "manifest" {
			keys = append(keys, key)
		}
	}
	for key := range records {
		if _, ok := s.records[key]; !ok && !strings.HasPrefix(key, "audit/") && kindOf(key) != "manifest/" {
			keys = append(keys, key)
		}
	}
	key := b.pick(keys)
	for _, key := range append(also, key) {
		if value, ok := s.records[key]; ok {
			records[key] = value
		} else {
			delete(records, key)
		}
	}
	return key
}

func olderRecord(b *breeder, records map[string]string) string { return b.putBack(b.stage(), records) }

// manifestOf returns the keys of the manifest in both.
func manifestOf(one, other map[string]string) (keys []string) {
	for _, records := range []map[string]string{one, other} {
		for key := range records {
			if kindOf(key) == "manifest/" || key == "manifest" {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// coveredOf returns the keys of all records that the manifest covers, in both, and of the private halves,
// without which an older ring is refused for their absence.
func coveredOf(one, other map[string]string) (keys []string) {
	for _, records := range []map[string]string{one, other} {
		for key := range records {
			if isCovered(key) && key != "clock" || kindOf(key) == "private/" {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func olderManifest(b *breeder, records map[string]string) string {
	s := b.stage()
	if b.random.IntN(2) == 0 {
		return "all of the manifest and " + b.putBack(s, records, coveredOf(s.records, records)...)
	}
	return b.putBack(s, records, manifestOf(s.records, records)...)
}

func olderClock(b *breeder, records map[string]string) string {
	s := b.stage()
	return "all of the manifest and " + b.putBack(s, records, append(coveredOf(s.records, records), "clock")...)
}

func olderStore(b *breeder, m *mutant) (string, error) {
	m.store = slices.Clone(b.stage().store)
	return "the whole store", nil
}

func olderWithoutMark(b *breeder, m *mutant) (string, error) {
	m.store, m.mark, m.outside = slices.Clone(b.stage().store), nil, true
	return "the whole store", nil
}

func olderWithMark(b *breeder, m *mutant) (string, error) {
	s := b.stage()
	m.store, m.mark, m.together = slices.Clone(s.store), slices.Clone(s.mark), true
	return "the whole store", nil
}

func damageMark(b *breeder, m *mutant) (string, error) {
	switch b.random.IntN(3) {
	case 0:
		m.mark = nil
		return "lost", nil
	case 1:
		m.mark = m.mark[:b.random.IntN(len(m.mark))]
		return "cut", nil
	}
	return fmt.Sprintf("bit %d", b.flip(m.mark)), nil
}
