package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash"
	"io"
	"strings"
	"time"

	"keymill/storage"
)

// A Source is a store that hands over what it commits. Package bolt documents Follow.
type Source interface {
	storage.Store
	Follow(ctx context.Context, fn func([]storage.Write)) (stop func(), err error)
}

// Options are what Write needs besides the store.
type Options struct {
	Header   Header // Write sets Format, Schema and Begun
	Key      []byte // of the MAC
	Now      func() time.Time
	TempDir  string // for the changes that come in the meantime; a file there has no name
	MaxBytes int64  // of these changes; Write fails if there are more

	// Begun is called once no other copy is being made. Its writes are in the copy, and it may complete the
	// header. It may be nil.
	Begun func(context.Context, *Header) error
}

// Write copies the store to w. The store stays in use. An error of w ends it. The copy is whole only if
// Write returns nil.
func Write(ctx context.Context, w io.Writer, s Source, o Options) (Trailer, error) {
	t := &tail{dir: o.TempDir, max: o.MaxBytes, room: tailRoom}
	defer t.close()
	stop, err := s.Follow(ctx, t.add)
	if err != nil {
		return Trailer{}, err
	}
	defer stop() // also if the copy fails; twice does no harm
	e, err := begin(ctx, w, o)
	if err != nil {
		return Trailer{}, err
	}
	var trailer Trailer
	if err := copyRecords(ctx, e, s, t, &trailer); err != nil {
		return Trailer{}, e.fail(err)
	}
	trailer.Ended = o.Now().UTC() // before stop: a change after it may be missing, and none before it
	stop()
	if trailer.Changes, err = t.copyTo(e); err != nil {
		return Trailer{}, e.fail(err)
	}
	return trailer, e.end(trailer, o.Key)
}

// begin writes the header.
func begin(ctx context.Context, w io.Writer, o Options) (*encoder, error) {
	if o.Begun != nil {
		if err := o.Begun(ctx, &o.Header); err != nil {
			return nil, err
		}
	}
	e := newEncoder(w)
	o.Header.Format, o.Header.Schema, o.Header.Begun = version, storage.Schema, o.Now().UTC()
	return e, e.header(o.Header)
}

// A Snapshot runs fn once, and shows it one instant of a store for as long as it takes.
type Snapshot func(ctx context.Context, fn func(storage.Reader) error) error

// WriteSnapshot copies one instant of a store to w, which stays in use. So the copy has no changes behind its
// records. Errors are those of Write.
func WriteSnapshot(ctx context.Context, w io.Writer, snapshot Snapshot, o Options) (Trailer, error) {
	e, err := begin(ctx, w, o)
	if err != nil {
		return Trailer{}, err
	}
	trailer := Trailer{Ended: o.Now().UTC()} // before the snapshot: every change that was acknowledged until then is in it
	err = snapshot(ctx, func(r storage.Reader) error {
		for entry, err := range r.Scan("", "") {
			switch {
			case err != nil:
				return err
			case entry.Key == storage.MovedKey:
				continue
			case isForeign(entry):
				trailer.LeftOut++
				continue
			}
			if err := e.write(storage.Write{Key: entry.Key, Value: entry.Value}); err != nil {
				return err
			}
			trailer.Records++
		}
		return nil
	})
	if err != nil {
		return Trailer{}, e.fail(err)
	}
	return trailer, e.end(trailer, o.Key)
}

// isForeign reports whether another program put the record there.
func isForeign(e storage.Entry) bool {
	return storage.CheckKey(e.Key) != nil || len(e.Value) > storage.MaxStoredBytes
}

// copyRecords copies all records, in one View for each page.
func copyRecords(ctx context.Context, e *encoder, s storage.Store, t *tail, trailer *Trailer) error {
	for start, more := "", true; more; {
		begun, changes := time.Now(), t.changes()
		var page []storage.Entry
		var leftOut int
		var next string
		err := s.View(ctx, func(r storage.Reader) error {
			page, leftOut, next = nil, 0, "" // the function may run more than once
			size := 0
			for entry, err := range r.Scan(start, "") {
				if err != nil {
					return err
				}
				size += len(entry.Key) + len(entry.Value)
				switch {
				case entry.Key == storage.MovedKey: // the copy is not the store that is moved
				case isForeign(entry):
					leftOut++
				default:
					page = append(page, entry)
				}
				if len(page)+leftOut == pageRecords || size >= pageBytes {
					next = storage.After(entry.Key)
					break
				}
			}
			return nil
		})
		if err == nil {
			err = t.failed() // at once: the rest of the copy would be for nothing
		}
		if err != nil {
			return err
		}
		for _, entry := range page {
			if err := e.write(storage.Write{Key: entry.Key, Value: entry.Value}); err != nil {
				return err
			}
		}
		trailer.Records += len(page)
		trailer.LeftOut += leftOut
		start, more = next, next != ""
		if more && t.changes() != changes {
			if err := pause(ctx, time.Since(begun)); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxPause bounds a pause. Most of the time of a page that takes longer is its reader's.
const maxPause = 50 * time.Millisecond

// pause waits as long as a page took, after a page during which the store was changed. So while the server has other
// work it copies at most half of the time. A store that is not changed is copied without pauses.
func pause(ctx context.Context, took time.Duration) error {
	select {
	case <-time.After(min(took, maxPause)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// An encoder writes a copy.
type encoder struct {
	w   *bufio.Writer // of all
	sum hash.Hash     // of what w has got
	out io.Writer
	buf []byte
}

func newEncoder(w io.Writer) *encoder {
	sum := sha256.New()
	return &encoder{w: bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10), sum: sum, out: w}
}

func (e *encoder) header(h Header) error {
	if _, err := e.w.WriteString(Magic); err != nil {
		return err
	}
	return e.json(h)
}

func (e *encoder) json(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return e.raw(append(binary.AppendUvarint(nil, uint64(len(raw))), raw...))
}

func (e *encoder) raw(b []byte) error {
	_, err := e.w.Write(b)
	return err
}

func (e *encoder) write(w storage.Write) error {
	e.buf = appendWrite(e.buf[:0], w)
	return e.raw(e.buf)
}

func appendWrite(b []byte, w storage.Write) []byte {
	if w.Deleted {
		b = binary.AppendUvarint(append(b, opDelete), uint64(len(w.Key)))
		return append(b, w.Key...)
	}
	b = binary.AppendUvarint(append(b, opPut), uint64(len(w.Key)))
	b = binary.AppendUvarint(append(b, w.Key...), uint64(len(w.Value)))
	return append(b, w.Value...)
}

// fail tells the reader why the copy ends, if it can be told, and returns err.
func (e *encoder) fail(err error) error {
	reason := err.Error()
	reason = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "") // not half a character
	if e.w.WriteByte(opFail) == nil && e.raw(append(binary.AppendUvarint(nil, uint64(len(reason))), reason...)) == nil {
		e.w.Flush() // err says more than an error of this
	}
	return err
}

// end writes the trailer, the checksum and its MAC.
func (e *encoder) end(t Trailer, key []byte) error {
	if err := e.w.WriteByte(opEnd); err != nil {
		return err
	}
	if err := e.json(t); err != nil {
		return err
	}
	if err := e.w.Flush(); err != nil {
		return err
	}
	sum := e.sum.Sum(nil)
	_, err := e.out.Write(append(sum, mac(key, sum)...))
	return err
}
