package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// inspectFile checks which page belongs to what before bbolt uses the file: every page belongs
// to one branch, one leaf or the free list. If the free list named a page that is in use, the
// next commit would overwrite records. It reads the branches, and of the leaves only those that may
// need several pages. That takes milliseconds for a gigabyte in the page cache, and else as long as
// the disk takes to read these pages.
func inspectFile(f *os.File, m fileMeta) error {
	length := m.pages * m.pageSize
	if uint64(int(length)) != length || int(length) < 0 {
		return errors.New("the file is too large for this machine")
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(length), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	defer syscall.Munmap(b)
	i := &inspection{pages: pages{bytes: b, size: int(m.pageSize)}, use: make([]use, m.pages)}
	err = contain(func() error { return i.run(m) })
	if err != nil {
		return fmt.Errorf("%w; restore a backup, or see keymill doctor", err)
	}
	return nil
}

// A use says what a page is for.
type use uint8

const (
	unknown use = iota // it follows a leaf and belongs to it, or nothing refers to it
	begins             // first page of a branch, a leaf or the free list
	follows            // belongs to a page before it
	free
)

// An inspection finds out the use of every page.
type inspection struct {
	pages
	use []use
}

func (i *inspection) run(m fileMeta) error {
	if err := i.freelist(m.freelist); err != nil {
		return err
	}
	if err := i.tree(tree{pages: i.pages, root: m.root, buckets: true}); err != nil {
		return err
	}
	t, err := openBucket(i.pages, m.root)
	if err != nil {
		return err
	}
	if t.root != 0 {
		if err := i.tree(t); err != nil {
			return err
		}
	}
	return i.gaps()
}

// mark notes the use of a page that has none yet.
func (i *inspection) mark(id uint64, as use) error {
	switch {
	case id < firstPage || id >= uint64(len(i.use)):
		return damaged("page %d is outside of the file", id)
	case i.use[id] != unknown:
		return damaged("page %d has two uses", id)
	}
	i.use[id] = as
	return nil
}

// markPages notes the use of page id and of those that belong to it, length bytes in all.
func (i *inspection) markPages(id uint64, length int) error {
	for n := range uint64(length / i.size) {
		as := follows
		if n == 0 {
			as = begins
		}
		if err := i.mark(id+n, as); err != nil {
			return err
		}
	}
	return nil
}

// freelist reads the list of pages that nothing uses: their ids in order, or, if they are too
// many for the header, their number first.
func (i *inspection) freelist(id uint64) error {
	b, flags, err := i.extent(id)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return damaged("page %d is not the free list", id)
	}
	if err := i.markPages(id, len(b)); err != nil {
		return err
	}
	count, ids := uint64(binary.NativeEndian.Uint16(b[10:])), b[pageHeaderBytes:]
	if count == 0xFFFF {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damaged("the free list of %d pages does not fit in %d bytes", count, len(b))
	}
	last := uint64(0)
	for n := range count {
		id := binary.NativeEndian.Uint64(ids[n*8:])
		if id <= last {
			return damaged("the free list is not in order at page %d", id)
		}
		if err := i.mark(id, free); err != nil {
			return err
		}
		last = id
	}
	return nil
}

// tree notes the pages of a tree. All its leaves are at the same depth.
func (i *inspection) tree(t tree) error {
	levels := 0 // of branches
	for n, err := t.top(); ; n, err = t.childOf(n, 0) {
		if err != nil {
			return err
		}
		if n.leaf {
			break
		}
		if levels++; levels > maxDepth {
			return damaged("the path to the first record has more than %d branches", maxDepth)
		}
	}
	root, err := t.top()
	if err != nil {
		return err
	}
	if err := i.markPages(t.root, len(root.page)); err != nil {
		return err
	}
	return i.branch(t, root, nil, levels)
}

// branch notes the pages below n, which has that many levels of branches from itself on. All
// keys are less than next.
func (i *inspection) branch(t tree, n node, next []byte, levels int) error {
	if err := n.sorted(); err != nil {
		return err
	}
	if next != nil && string(n.key(n.count-1)) >= string(next) {
		return damaged("a branch holds the key %s of the next page", quote(n.key(n.count-1)))
	}
	if n.leaf {
		return nil
	}
	for j := range n.count {
		if levels == 1 {
			if err := i.mark(n.child(j), begins); err != nil {
				return err
			}
			continue
		}
		child, err := t.childOf(n, j)
		if err != nil {
			return err
		}
		if err := i.markPages(n.child(j), len(child.page)); err != nil {
			return err
		}
		end := next
		if j+1 < n.count {
			end = n.key(j + 1)
		}
		if err := i.branch(t, child, end, levels-1); err != nil {
			return err
		}
	}
	return nil
}

// gaps looks at the leaves that a page of unknown use or a free page follows: what belongs to
// the leaf ends before the next page that has a use. A leaf that another one follows is checked
// when it is read.
func (i *inspection) gaps() error {
	for id := uint64(firstPage); id < uint64(len(i.use)); id++ {
		if i.use[id] != begins {
			continue
		}
		end := id + 1
		for end < uint64(len(i.use)) && i.use[end] == unknown {
			end++
		}
		if end < uint64(len(i.use)) && end == id+1 && i.use[end] != free {
			continue
		}
		b, _, err := i.extent(id)
		if err != nil {
			return err
		}
		if id+uint64(len(b)/i.size) > end {
			return damaged("page %d reaches into page %d", id, end)
		}
	}
	return nil
}
