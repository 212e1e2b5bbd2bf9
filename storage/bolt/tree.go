package bolt

import (
	"encoding/binary"

	"keymill/storage"
)

// maxDepth bounds the path from the root to a leaf. A page has two children or more, nearly
// always dozens, so this is more than a file can have.
const maxDepth = 64

// A tree is one bbolt bucket as a transaction sees it. It reads the pages itself and checks what
// it returns. No method loops forever, whatever the file holds.
type tree struct {
	pages
	root    uint64 // page of the root
	inline  node   // the root, if the bucket is so small that its parent holds it; root is then 0
	buckets bool   // the elements are buckets and no records

	// checked holds the pages whose keys verify has found in order. It is nil for a View, which seldom reads a
	// page twice.
	checked map[uint64]struct{}
}

// openBucket returns the bucket that holds the records. root is the page of the bucket of buckets.
func openBucket(p pages, root uint64) (tree, error) {
	top := tree{pages: p, root: root, buckets: true}
	l, err := top.leafOf(bucketName)
	if err != nil {
		return tree{}, err
	}
	i := l.search(bucketName) - 1
	if i < 0 || string(l.key(i)) != bucketName {
		return tree{}, errForeign
	}
	// A bucket is the page of its root and a counter that this package does not use, 8 bytes
	// each, and the root itself if that page is 0.
	b := l.value(i)
	if len(b) < 16 {
		return tree{}, damaged("the bucket has %d bytes", len(b))
	}
	t := tree{pages: p, root: binary.NativeEndian.Uint64(b)}
	if t.root != 0 {
		return t, nil
	}
	if len(b) < 16+pageHeaderBytes {
		return tree{}, damaged("the bucket has %d bytes", len(b))
	}
	n, used, err := parseNode(b[16:])
	if err != nil || !n.leaf || used != len(b)-16 {
		return tree{}, damaged("the bucket's root is not a leaf of %d bytes: %v", len(b)-16, err)
	}
	t.inline = n
	return t, nil
}

func (t tree) top() (node, error) {
	if t.root == 0 {
		return t.inline, nil
	}
	return t.node(t.root)
}

// A leaf is one leaf, and the first key of the next one.
type leaf struct {
	node
	next []byte // nil after the last leaf
}

// A visit is called with each branch on the path to a leaf, and the index of the next child on it.
type visit func(branch node, i int) error

// leafOf returns the leaf in which the key is, if it is in the tree.
func (t tree) leafOf(key string) (leaf, error) { return t.walk(key, nil) }

func (t tree) walk(key string, v visit) (leaf, error) {
	n, err := t.top()
	if err != nil {
		return leaf{}, err
	}
	var next []byte
	for depth := 0; !n.leaf; depth++ {
		if depth == maxDepth {
			return leaf{}, damaged("the path to the record %s has more than %d branches", storage.QuoteKey(key), maxDepth)
		}
		i := max(n.search(key)-1, 0)
		if i+1 < n.count {
			next = n.key(i + 1)
		}
		if v != nil {
			if err := v(n, i); err != nil {
				return leaf{}, err
			}
		}
		child, err := t.childOf(n, i)
		if err != nil {
			return leaf{}, err
		}
		if next != nil && string(child.key(child.count-1)) >= string(next) {
			return leaf{}, damaged("page %d holds keys of the next page", n.child(i))
		}
		n = child
	}
	switch {
	case t.buckets && n.buckets == 0:
		return leaf{}, damaged("the record %s is not a bucket", storage.QuoteKey(key))
	case !t.buckets && n.buckets > 0:
		return leaf{}, damaged("the record %s is a bucket", quote(n.firstBucket()))
	}
	return leaf{n, next}, nil
}

// childOf returns the child of a branch, which begins with the key that the branch says.
func (t tree) childOf(n node, i int) (node, error) {
	child, err := t.node(n.child(i))
	if err != nil {
		return node{}, err
	}
	if child.count == 0 || string(child.key(0)) != string(n.key(i)) {
		return node{}, damaged("page %d does not begin with the key that its parent has", n.child(i))
	}
	return child, nil
}

// get returns the value of a record within the mapped file, or storage.ErrNotFound.
func (t tree) get(key string) ([]byte, error) {
	if v := t.find(key); v != nil {
		return v, nil
	}
	// The record is missing, or a page is damaged. Keys that are out of order could have led
	// the search past the record.
	l, err := t.verify(key, false)
	if err != nil {
		return nil, err
	}
	if i := l.search(key) - 1; i >= 0 && string(l.key(i)) == key {
		return l.value(i), nil
	}
	return nil, storage.ErrNotFound
}

// find is the fast path of get. It checks only what it reads, and returns nil if anything is
// wrong, if there is no record, and if the tree is one page within another.
func (t tree) find(key string) []byte {
	id := t.root
	for range maxDepth {
		if id == 0 {
			return nil
		}
		b, flags, err := t.extent(id)
		if err != nil {
			return nil
		}
		n := node{page: b, leaf: flags == flagLeaf, count: int(binary.NativeEndian.Uint16(b[10:]))}
		if n.count == 0 || !n.leaf && flags != flagBranch || pageHeaderBytes+n.count*elementBytes > len(b) {
			return nil
		}
		low, high := 0, n.count // search, with checks
		for low < high {
			middle := int(uint(low+high) >> 1)
			switch k := n.inside(middle); {
			case k == nil:
				return nil
			case string(k) <= key:
				low = middle + 1
			default:
				high = middle
			}
		}
		i := max(low-1, 0)
		if n.leaf {
			if k := n.inside(i); string(k) != key {
				return nil
			}
			return n.record(i)
		}
		id = n.child(i)
	}
	return nil
}

// verify checks the pages that bbolt reads and changes to write the record: those on the path to
// it and, if the record is removed, their neighbours, with which bbolt may merge them. It returns
// the leaf.
func (t tree) verify(key string, removed bool) (leaf, error) {
	l, err := t.walk(key, func(n node, i int) error {
		if err := t.sorted(n); err != nil || !removed {
			return err
		}
		for j := max(i-1, 0); j <= min(i+1, n.count-1); j++ {
			neighbour, err := t.childOf(n, j)
			if err == nil {
				err = t.sorted(neighbour)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = t.sorted(l.node)
	}
	return l, err
}

// sorted checks the order of the keys, once for each page.
func (t tree) sorted(n node) error {
	if t.checked == nil {
		return n.sorted()
	}
	id := binary.NativeEndian.Uint64(n.page)
	if _, known := t.checked[id]; known {
		return nil
	}
	err := n.sorted()
	if err == nil {
		t.checked[id] = struct{}{}
	}
	return err
}
