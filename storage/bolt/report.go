package bolt

import (
	"encoding/binary"
	"time"
)

// reportCommit commits the group and tells Options.Committed about it.
func (s *Store) reportCommit(g *group) error {
	if s.opts.Committed == nil {
		return s.commitTx(g.tx)
	}
	// bbolt needs none of the pages that are read here, so damage of one must not end the store.
	contain(func() error { s.noteUsed(pagesOf(g.tx)); return nil })
	began := time.Now()
	err := s.commitTx(g.tx)
	s.opts.Committed(time.Since(began), len(g.calls))
	return err
}

// noteUsed notes how many bytes of the file hold something: the pages that the newest meta page
// counts, without those of its free list. It reads three page headers. bbolt's own statistics
// cost a lock per View, so they are off.
func (s *Store) noteUsed(p pages) {
	var newest fileMeta
	for n := range firstPage {
		if m, ok := parseMeta(p.bytes[n*p.size:][:p.size]); ok && m.txid >= newest.txid {
			newest = m
		}
	}
	list, flags, err := p.extent(newest.freelist)
	if err != nil || flags != flagFreelist {
		return
	}
	free := uint64(binary.NativeEndian.Uint16(list[10:]))
	if free == 0xFFFF { // see inspection.freelist
		free = binary.NativeEndian.Uint64(list[pageHeaderBytes:])
	}
	if free < newest.pages {
		s.used.Store(int64(newest.pages-free) * int64(p.size))
	}
}
