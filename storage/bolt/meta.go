package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
)

// A fileMeta is one of bbolt's two meta pages. They are the first two pages of the file,
// and commits write them in turn. After a page header of 16 bytes a meta page holds, in
// the byte order of the machine:
//
//	magic, version, page size, flags                    4 bytes each
//	root page, sequence of the root, free list page,
//	number of pages, transaction id, FNV-1a checksum    8 bytes each
type fileMeta struct {
	pageSize, root, freelist, pages, txid uint64

	used [metaBytes]byte // with the checksum at the end
}

const (
	pageHeaderBytes = 16
	metaBytes       = 64
	boltMagic       = 0xED0CDAED
	boltVersion     = 2

	// maxTransaction is out of reach: a store with a million changes a second gets there in 146,000 years. bbolt
	// counts on from the newest transaction, and over the largest number begins with 0 again.
	maxTransaction = 1 << 62
)

// checkFile checks a locked file before bbolt maps it into memory.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() == 0:
		return errors.New("the file is empty: the store in it is lost; restore a backup; only if it never held data, remove the file and run keymill init")
	}
	m, err := newestMeta(f)
	if err != nil {
		return err
	}
	if err := m.check(info.Size()); err != nil {
		return err
	}
	return inspectFile(f, m)
}

// check returns an error if a file of size bytes cannot hold the pages that m refers to.
func (m fileMeta) check(size int64) error {
	if m.pages > math.MaxInt64/m.pageSize || size < int64(m.pages*m.pageSize) {
		return fmt.Errorf("the file is truncated: %d bytes, expected at least %d pages of %d bytes; restore a backup", size, m.pages, m.pageSize)
	}
	if m.txid > maxTransaction {
		return damaged("the newest meta page says that it is of transaction %d, and no store has had so many; restore a backup", m.txid)
	}
	// This package always writes a free list. A file without one comes from another
	// program, and bbolt would change it when it opens it.
	if m.root < firstPage || m.root >= m.pages || m.freelist < firstPage || m.freelist >= m.pages {
		return errors.New("the file is damaged or belongs to another program; restore a backup, or choose another data directory")
	}
	return nil
}

// newestMeta returns the newer meta page. If one page is damaged and could be the newer one, that
// is an error: bbolt would show the older state, in which the last change is undone. A crash
// does not leave such a page, because the disk writes the part that is used as one sector.
func newestMeta(f io.ReaderAt) (fileMeta, error) {
	first, ok := readMeta(f, 0)
	if ok {
		second, ok := readMeta(f, int64(first.pageSize))
		switch {
		case !ok && second.mayFollow(first):
			return fileMeta{}, errMeta
		case ok && second.txid == first.txid:
			return fileMeta{}, errSameMeta // bbolt never writes one transaction into both
		case ok && second.txid > first.txid:
			return second, nil
		}
		return first, nil
	}
	// Only a meta page tells the page size. Without the first one, try every size for
	// the second one, as bbolt does.
	for size := int64(1 << 10); size <= 1<<24; size <<= 1 {
		if second, ok := readMeta(f, size); ok {
			if first.mayFollow(second) {
				return fileMeta{}, errMeta
			}
			return second, nil
		}
	}
	return fileMeta{}, errors.New("the file is not a Keymill store; if it was one, restore a copy of it")
}

// mayFollow reports whether m, whose checksum does not fit, can be the transaction after valid. It is the one
// before if it says so, unless that is the damage: with the other transaction the checksum fits.
func (m fileMeta) mayFollow(valid fileMeta) bool {
	if m.txid != valid.txid-1 {
		return true
	}
	binary.NativeEndian.PutUint64(m.used[48:], valid.txid+1)
	return m.fits()
}

// fits reports whether the checksum does.
func (m fileMeta) fits() bool {
	sum := fnv.New64a()
	sum.Write(m.used[:metaBytes-8])
	return binary.NativeEndian.Uint64(m.used[metaBytes-8:]) == sum.Sum64()
}

// These refuse a file whose last transaction may be lost.
var (
	errMeta     = damaged("one of the two meta pages cannot be read, and the last change may be lost with it; restore a backup")
	errSameMeta = damaged("one of the two meta pages is a copy of the other, and the last change may be lost; restore a backup")
)

// readMeta reads a meta page, and reports whether it is valid.
func readMeta(f io.ReaderAt, at int64) (fileMeta, bool) {
	page := make([]byte, pageHeaderBytes+metaBytes)
	if _, err := f.ReadAt(page, at); err != nil {
		return fileMeta{}, false
	}
	return parseMeta(page)
}

// parseMeta reads a meta page from its bytes.
func parseMeta(page []byte) (fileMeta, bool) {
	b, order := page[pageHeaderBytes:], binary.NativeEndian
	m := fileMeta{
		used:     [metaBytes]byte(b[:metaBytes]),
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	valid := order.Uint32(b) == boltMagic && order.Uint32(b[4:]) == boltVersion && m.fits()
	return m, valid && m.pageSize > 0
}
