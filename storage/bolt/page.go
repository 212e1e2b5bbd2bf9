package bolt

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// bbolt trusts its pages. On a damaged one it panics, reads outside of the file, follows a
// circle until the stack is full, or allocates gigabytes, and most of that ends the process. So
// this package checks each page before bbolt uses it. Numbers are in the byte order of the
// machine. A page begins with a header of 16 bytes:
//
//	id of the page 8, flags 2, number of elements 2, number of pages that follow it and belong to it 4
//
// and continues with the elements of 16 bytes each, and then with the keys and values, in order
// and without a gap:
//
//	leaf     1 if it is a bucket 4, distance of the key 4, size of the key 4, size of the value 4
//	branch   distance of the key 4, size of the key 4, id of the child 8
//
// The key of a branch's element is the first key of the child.
const (
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	elementBytes = 16
	firstPage    = 2 // after the two meta pages
)

// Pages are the pages of one transaction, mapped from the file.
type pages struct {
	bytes []byte // all of them; bytes beyond the last page are not in it
	size  int    // of one page
}

func (p pages) count() uint64 { return uint64(len(p.bytes) / p.size) }

// A node is one page of a tree, with the pages that follow it and belong to it. Its layout was
// checked, so the methods stay within the page.
type node struct {
	page    []byte
	leaf    bool
	count   int
	buckets int // how many elements are buckets; a bucket of records has none
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", storage.ErrBroken, fmt.Errorf(format, args...))
}

// quote returns a key for a message. It can have any bytes, and more of them than a Store writes: the
// layout of a page is what bbolt allows, and package sealed names the record.
func quote(key []byte) string { return storage.QuoteKey(string(key)) }

// extent returns the bytes of page id and of those that belong to it, and its flags.
func (p pages) extent(id uint64) ([]byte, uint16, error) {
	if id < firstPage || id >= p.count() {
		return nil, 0, damaged("page %d is outside of the file", id)
	}
	b := p.bytes[id*uint64(p.size):]
	if is := binary.NativeEndian.Uint64(b); is != id {
		return nil, 0, damaged("page %d says that it is page %d", id, is)
	}
	length := (uint64(binary.NativeEndian.Uint32(b[12:])) + 1) * uint64(p.size)
	if length > uint64(len(b)) {
		return nil, 0, damaged("page %d is longer than the file", id)
	}
	return b[:length], binary.NativeEndian.Uint16(b[8:]), nil
}

// node returns the page of a tree after checking its layout.
func (p pages) node(id uint64) (node, error) {
	b, _, err := p.extent(id)
	if err != nil {
		return node{}, err
	}
	n, used, err := parseNode(b)
	if err != nil {
		return node{}, damaged("page %d: %w", id, err)
	}
	if needed := (used + p.size - 1) / p.size; needed*p.size != len(b) {
		return node{}, damaged("page %d has %d bytes in %d pages", id, used, len(b)/p.size)
	}
	return n, nil
}

// parseNode checks the layout of a page and returns how many of its bytes are used.
func parseNode(b []byte) (n node, used int, err error) {
	n = node{page: b, count: int(binary.NativeEndian.Uint16(b[10:]))}
	switch flags := binary.NativeEndian.Uint16(b[8:]); {
	case flags == flagLeaf:
		n.leaf = true
	case flags != flagBranch:
		return n, 0, fmt.Errorf("its type is 0x%x", flags)
	case n.count == 0:
		return n, 0, fmt.Errorf("it has no child")
	}
	used = pageHeaderBytes + n.count*elementBytes
	if used > len(b) {
		return n, 0, fmt.Errorf("%d elements do not fit", n.count)
	}
	for i := range n.count {
		at, key, value := n.place(i)
		if at != used || key < 1 || key > bbolt.MaxKeySize || value < 0 || value > len(b)-used-key {
			return n, 0, fmt.Errorf("element %d is not where it belongs", i)
		}
		if n.leaf {
			switch flags := binary.NativeEndian.Uint32(b[pageHeaderBytes+i*elementBytes:]); flags {
			case 0:
			case 1:
				n.buckets++
			default:
				return n, 0, fmt.Errorf("element %d has the type 0x%x", i, flags)
			}
		}
		used += key + value
	}
	return n, used, nil
}

// firstBucket returns the key of the first element that is a bucket.
func (n node) firstBucket() []byte {
	for i := range n.count {
		if binary.NativeEndian.Uint32(n.page[pageHeaderBytes+i*elementBytes:]) != 0 {
			return n.key(i)
		}
	}
	return nil
}

// place returns where the key of element i is, and the sizes of its key and value.
func (n node) place(i int) (at, key, value int) {
	e := pageHeaderBytes + i*elementBytes
	b := n.page[e : e+elementBytes]
	if !n.leaf {
		return e + int(binary.NativeEndian.Uint32(b)), int(binary.NativeEndian.Uint32(b[4:])), 0
	}
	return e + int(binary.NativeEndian.Uint32(b[4:])), int(binary.NativeEndian.Uint32(b[8:])), int(binary.NativeEndian.Uint32(b[12:]))
}

func (n node) key(i int) []byte {
	at, size, _ := n.place(i)
	return n.page[at : at+size]
}

// value returns the value of an element of a leaf.
func (n node) value(i int) []byte {
	at, key, size := n.place(i)
	return n.page[at+key : at+key+size]
}

// child returns the page of an element of a branch.
func (n node) child(i int) uint64 {
	return binary.NativeEndian.Uint64(n.page[pageHeaderBytes+i*elementBytes+8:])
}

// inside returns the key of element i of a page whose layout was not checked, or nil if it is not
// within the page.
func (n node) inside(i int) []byte {
	at, size, _ := n.place(i)
	if first := pageHeaderBytes + n.count*elementBytes; at < first || size < 1 || size > bbolt.MaxKeySize || at > len(n.page)-size {
		return nil
	}
	return n.page[at : at+size]
}

// record returns the value of element i of a leaf whose layout was not checked, or nil if the
// elements beside it contradict it.
func (n node) record(i int) []byte {
	at, key, value := n.place(i)
	begin, end := pageHeaderBytes+n.count*elementBytes, len(n.page)
	if i > 0 {
		before, k, v := n.place(i - 1)
		begin = before + k + v
	}
	if i+1 < n.count {
		end, _, _ = n.place(i + 1)
	}
	flags := binary.NativeEndian.Uint32(n.page[pageHeaderBytes+i*elementBytes:])
	if at != begin || value < 0 || end > len(n.page) || value > end-at-key || i+1 < n.count && value != end-at-key || flags != 0 {
		return nil
	}
	return n.page[at+key : at+key+value : at+key+value]
}

// search returns the number of keys <= key.
func (n node) search(key string) int {
	low, high := 0, n.count
	for low < high {
		middle := int(uint(low+high) >> 1)
		if string(n.key(middle)) <= key {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// sorted returns an error unless each key is greater than the one before it.
func (n node) sorted() error {
	for i := 1; i < n.count; i++ {
		if string(n.key(i-1)) >= string(n.key(i)) {
			return damaged("the key %s follows the key %s", quote(n.key(i)), quote(n.key(i-1)))
		}
	}
	return nil
}
