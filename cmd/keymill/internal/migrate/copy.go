package migrate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"keymill/storage"
	"keymill/storage/moved"
)

// A tally counts what a pass over the source has seen.
type tally struct {
	Records int
	Bytes   int64
	LeftOut int // records that no program of this module can have written
}

// isCopied reports whether a record belongs to the store and not to the nodes that use it, or to the migration.
func isCopied(key string) bool {
	return key != storage.MovedKey && !strings.HasPrefix(key, "node/") && !strings.HasPrefix(key, "lease/")
}

// wanted returns the records of a source that a target must have, and counts them.
func wanted(records iter.Seq2[storage.Entry, error], t *tally) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		last := ""
		for e, err := range records {
			switch {
			case err != nil:
			case e.Key <= last:
				err = fmt.Errorf("the source lists key %s behind %s", storage.QuoteKey(e.Key), storage.QuoteKey(last))
			case !isCopied(e.Key):
				continue
			case storage.CheckKey(e.Key) != nil || len(e.Value) > storage.MaxStoredBytes:
				t.LeftOut++
				continue
			}
			if err != nil {
				yield(e, err)
				return
			}
			last = e.Key
			t.Records++
			t.Bytes += int64(len(e.Key) + len(e.Value))
			if !yield(e, nil) {
				return
			}
		}
	}
}

// present returns the records of a target that belong to its store.
func present(records iter.Seq2[storage.Entry, error]) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range records {
			if err == nil && e.Key == storage.MovedKey {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// differences returns the writes that make the target what the source is, in key order.
func differences(want, have iter.Seq2[storage.Entry, error]) iter.Seq2[storage.Write, error] {
	return func(yield func(storage.Write, error) bool) {
		nextWanted, stopWanted := iter.Pull2(want)
		defer stopWanted()
		nextHad, stopHad := iter.Pull2(have)
		defer stopHad()
		w, wantErr, more := nextWanted()
		h, haveErr, has := nextHad()
		for more || has {
			if wantErr != nil || haveErr != nil {
				yield(storage.Write{}, fmt.Errorf("read the %s: %w", side(wantErr != nil), either(wantErr, haveErr)))
				return
			}
			var change *storage.Write
			switch {
			case !more || has && h.Key < w.Key:
				change = &storage.Write{Key: h.Key, Deleted: true}
				h, haveErr, has = nextHad()
			case !has || w.Key < h.Key:
				change = &storage.Write{Key: w.Key, Value: w.Value}
				w, wantErr, more = nextWanted()
			default:
				if !bytes.Equal(w.Value, h.Value) {
					change = &storage.Write{Key: w.Key, Value: w.Value}
				}
				w, wantErr, more = nextWanted()
				h, haveErr, has = nextHad()
			}
			if change != nil && !yield(*change, nil) {
				return
			}
		}
	}
}

func side(source bool) string {
	if source {
		return "source"
	}
	return "target"
}

func either(one, other error) error {
	if one != nil {
		return one
	}
	return other
}

// copyRecords makes the changes in the target, as long as it is that of the run. It returns how many they are.
func copyRecords(ctx context.Context, changes iter.Seq2[storage.Write, error], to *place, run string) (written int, err error) {
	next, stop := iter.Pull2(changes)
	defer stop()
	guard := func(r storage.Reader) error { return moved.CheckExpected(r, run) }
	err = to.load(ctx, guard, func() (storage.Write, error) {
		w, err, more := next()
		if !more {
			return w, io.EOF
		}
		return w, err
	}, func(writes int) { written += writes })
	return written, err
}

// changes returns the writes that the target needs, and calls report for each record of the source.
func changes(ctx context.Context, from *source, to *place, t *tally, report func()) iter.Seq2[storage.Write, error] {
	return differences(watched(wanted(from.records(ctx), t), report), present(to.records(ctx)))
}

// compare reads both stores, and returns an error unless the target has every record of the source and no other.
func compare(ctx context.Context, from *source, to *place, t *tally, report func()) error {
	for w, err := range changes(ctx, from, to, t, report) {
		if err != nil {
			return err
		}
		what := "differs"
		if w.Deleted {
			what = "is in the target and not in the source"
		}
		return fmt.Errorf("after the copy the record %s %s; the target is not used", storage.KeyText(w.Key), what)
	}
	return nil
}

// watched calls fn for each record.
func watched(records iter.Seq2[storage.Entry, error], fn func()) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range records {
			fn()
			if !yield(e, err) {
				return
			}
		}
	}
}
