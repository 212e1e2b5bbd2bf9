package enginetest

import (
	"cmp"
	"slices"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// A Part adds to a batch.
type Part func(*optimistic.Batch)

// Batch returns a batch of the parts.
func Batch(parts ...Part) *optimistic.Batch {
	b := &optimistic.Batch{}
	for _, p := range parts {
		p(b)
	}
	slices.SortFunc(b.Reads, func(a, b optimistic.Record) int { return cmp.Compare(a.Key, b.Key) })
	slices.SortFunc(b.Writes, func(a, b storage.Write) int { return cmp.Compare(a.Key, b.Key) })
	return b
}

// Reads adds a read of one record, version 0 means that it was absent.
func Reads(key string, version int64) Part {
	return func(b *optimistic.Batch) { b.Reads = append(b.Reads, optimistic.Record{Key: key, Version: version}) }
}

// Puts adds writes. It takes pairs of key and value.
func Puts(pairs ...string) Part {
	return func(b *optimistic.Batch) {
		for i := 0; i < len(pairs); i += 2 {
			b.Writes = append(b.Writes, storage.Write{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
	}
}

// Deletes adds removals.
func Deletes(keys ...string) Part {
	return func(b *optimistic.Batch) {
		for _, key := range keys {
			b.Writes = append(b.Writes, storage.Write{Key: key, Deleted: true})
		}
	}
}

// Scanned adds a span with the records that were in it.
func Scanned(start, end string, records ...optimistic.Record) Part {
	return func(b *optimistic.Batch) {
		b.Spans = append(b.Spans, optimistic.Span{Start: start, End: end, Records: records})
	}
}

// At is a record of a span.
func At(key string, version int64) optimistic.Record {
	return optimistic.Record{Key: key, Version: version}
}
