package crash

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"sort"
)

// A storeFile is a file of bbolt as bytes, read without bbolt: the file may be damaged, and bbolt maps
// it into memory and trusts it. Every method checks bounds, so the worst that damage does is an error.
type storeFile struct {
	data     []byte
	pageSize int
	meta     int    // page number of the meta page in use
	root     uint64 // page of the root bucket
}

var errDamagedFile = errors.New("the file is damaged")

const (
	pageHeaderBytes = 16
	elementBytes    = 16
	metaMagic       = 0xED0CDAED
	metaSumAt       = 56 // offset of the checksum in a meta page, behind its header

	branchPage = 0x01
	leafPage   = 0x02
	bucketLeaf = 0x01
	maxDepth   = 16
)

// readStoreFile finds the meta page with the highest transaction whose checksum fits.
func readStoreFile(data []byte) (*storeFile, error) {
	const pageSize = 4096
	f, newest := &storeFile{data: data, pageSize: pageSize, meta: -1}, uint64(0)
	for n := range 2 {
		p, err := f.page(uint64(n))
		if err != nil {
			return nil, err
		}
		m := p[pageHeaderBytes:]
		sum := fnv.New64a()
		sum.Write(m[:metaSumAt])
		if binary.LittleEndian.Uint32(m) != metaMagic || sum.Sum64() != binary.LittleEndian.Uint64(m[metaSumAt:]) {
			continue
		}
		if tx := binary.LittleEndian.Uint64(m[48:]); f.meta < 0 || tx > newest {
			f.meta, f.root, newest = n, binary.LittleEndian.Uint64(m[16:]), tx
		}
	}
	if f.meta < 0 {
		return nil, errDamagedFile
	}
	return f, nil
}

// page returns a page with the pages that overflow from it.
func (f *storeFile) page(id uint64) ([]byte, error) {
	count := uint64(len(f.data) / f.pageSize)
	if id >= count {
		return nil, errDamagedFile
	}
	start := int(id) * f.pageSize
	overflow := uint64(binary.LittleEndian.Uint32(f.data[start+12:]))
	if overflow >= count-id {
		return nil, errDamagedFile
	}
	return f.data[start : start+int(1+overflow)*f.pageSize], nil
}

// An element is one of a branch or a leaf page.
type element struct {
	key, value []byte // no value in a branch page
	child      uint64 // in a branch page
	bucket     bool   // the value is the header of a bucket
}

// elements returns those of a page, and whether it is a branch page.
func (f *storeFile) elements(id uint64) (list []element, branch bool, err error) {
	p, err := f.page(id)
	if err != nil {
		return nil, false, err
	}
	flags, count := binary.LittleEndian.Uint16(p[8:]), int(binary.LittleEndian.Uint16(p[10:]))
	branch = flags&branchPage != 0
	if !branch && flags&leafPage == 0 || pageHeaderBytes+count*elementBytes > len(p) {
		return nil, false, errDamagedFile
	}
	for n := range count {
		at := pageHeaderBytes + n*elementBytes
		word := func(i int) int { return int(binary.LittleEndian.Uint32(p[at+4*i:])) }
		e, start, keyEnd, end := element{}, at+word(0), 0, 0
		if branch {
			e.child, keyEnd = binary.LittleEndian.Uint64(p[at+8:]), start+word(1)
			end = keyEnd
		} else {
			e.bucket = word(0)&bucketLeaf != 0
			start = at + word(1)
			keyEnd = start + word(2)
			end = keyEnd + word(3)
		}
		if start > len(p) || end > len(p) {
			return nil, false, errDamagedFile
		}
		e.key, e.value = p[start:keyEnd], p[keyEnd:end]
		list = append(list, e)
	}
	return list, branch, nil
}

// records returns the root of the only bucket, which holds all records.
func (f *storeFile) records() (uint64, error) {
	list, branch, err := f.elements(f.root)
	if err != nil || branch || len(list) != 1 || !list[0].bucket || len(list[0].value) < 16 {
		return 0, errors.Join(errDamagedFile, err)
	}
	return binary.LittleEndian.Uint64(list[0].value), nil
}

// get returns a record as a search in the tree finds it, nil if it finds none.
func (f *storeFile) get(key string) ([]byte, error) {
	id, err := f.records()
	for range maxDepth {
		if err != nil {
			return nil, err
		}
		var list []element
		var branch bool
		if list, branch, err = f.elements(id); err != nil {
			return nil, err
		}
		n := sort.Search(len(list), func(i int) bool { return string(list[i].key) >= key })
		exact := n < len(list) && string(list[n].key) == key
		switch {
		case !branch && exact:
			return list[n].value, nil
		case !branch || len(list) == 0:
			return nil, nil
		case !exact && n > 0:
			n--
		}
		id = list[n].child
	}
	return nil, errDamagedFile
}

// all returns every record, and the pages in use with those of the tree above the records.
func (f *storeFile) all() (records map[string]string, pages []int, err error) {
	id, err := f.records()
	if err != nil {
		return nil, nil, err
	}
	m := f.data[f.meta*f.pageSize+pageHeaderBytes:]
	pages = []int{0, 1, int(f.root)}
	if free := binary.LittleEndian.Uint64(m[32:]); free < uint64(len(f.data)/f.pageSize) {
		pages = append(pages, int(free))
	}
	records = map[string]string{}
	err = f.walk(id, maxDepth, records, &pages)
	return records, pages, err
}

func (f *storeFile) walk(id uint64, depth int, records map[string]string, pages *[]int) error {
	list, branch, err := f.elements(id)
	if err != nil || depth == 0 {
		return errors.Join(errDamagedFile, err)
	}
	p, _ := f.page(id)
	for n := range len(p) / f.pageSize {
		*pages = append(*pages, int(id)+n)
	}
	for _, e := range list {
		if !branch {
			records[string(e.key)] = string(e.value)
		} else if err := f.walk(e.child, depth-1, records, pages); err != nil {
			return err
		}
	}
	return nil
}
