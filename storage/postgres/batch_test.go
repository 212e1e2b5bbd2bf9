package postgres

import (
	"cmp"
	"slices"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// A part adds to a batch.
type part func(*optimistic.Batch)

func batch(parts ...part) *optimistic.Batch {
	b := &optimistic.Batch{}
	for _, p := range parts {
		p(b)
	}
	slices.SortFunc(b.Reads, func(a, b optimistic.Record) int { return cmp.Compare(a.Key, b.Key) })
	slices.SortFunc(b.Writes, func(a, b storage.Write) int { return cmp.Compare(a.Key, b.Key) })
	return b
}

// reads of one record, version 0 means that it was absent.
func reads(key string, version int64) part {
	return func(b *optimistic.Batch) { b.Reads = append(b.Reads, optimistic.Record{Key: key, Version: version}) }
}

// puts takes pairs of key and value.
func puts(pairs ...string) part {
	return func(b *optimistic.Batch) {
		for i := 0; i < len(pairs); i += 2 {
			b.Writes = append(b.Writes, storage.Write{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
	}
}

func deletes(keys ...string) part {
	return func(b *optimistic.Batch) {
		for _, key := range keys {
			b.Writes = append(b.Writes, storage.Write{Key: key, Deleted: true})
		}
	}
}

func scanned(start, end string, records ...optimistic.Record) part {
	return func(b *optimistic.Batch) {
		b.Spans = append(b.Spans, optimistic.Span{Start: start, End: end, Records: records})
	}
}

// at is a record of a span.
func at(key string, version int64) optimistic.Record {
	return optimistic.Record{Key: key, Version: version}
}
