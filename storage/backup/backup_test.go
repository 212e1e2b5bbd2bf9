package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"keymill/storage"
	"keymill/storage/bolt"
)

var testKey = []byte("the key of the MAC in these tests")

func openStore(t *testing.T) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func options(t *testing.T) Options {
	return Options{
		Header: Header{Database: "0123", Program: "1.2.3", Bytes: 5}, Key: testKey, Now: time.Now,
		TempDir: t.TempDir(), MaxBytes: 1 << 30,
	}
}

func put(t testing.TB, s storage.Store, records map[string]string) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(records))
	for part := range slices.Chunk(keys, 50) {
		err := s.Update(t.Context(), func(tx storage.Tx) error {
			for _, k := range part {
				if err := tx.Put(k, []byte(records[k])); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func recordsOf(t testing.TB, s storage.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := s.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan(" ", "\x7f") {
			if err != nil {
				return err
			}
			all[e.Key] = string(e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// restored reads a copy to its end.
func restored(in io.Reader) (map[string]string, *Reader, error) {
	r, err := NewReader(in)
	if err != nil {
		return nil, nil, err
	}
	all := map[string]string{}
	for {
		w, err := r.Next()
		switch {
		case err == io.EOF:
			return all, r, nil
		case err != nil:
			return nil, r, err
		case w.Deleted:
			delete(all, w.Key)
		default:
			all[w.Key] = string(w.Value)
		}
	}
}

// made returns a small copy.
func made(t *testing.T) []byte {
	t.Helper()
	s := openStore(t)
	put(t, s, map[string]string{"a": "1", "b/c": strings.Repeat("x", 300), "z": ""})
	var b bytes.Buffer
	if _, err := Write(t.Context(), &b, s, options(t)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A pausing writer calls fn before each of its writes.
type pausing struct {
	io.Writer
	fn func()
}

func (p pausing) Write(b []byte) (int, error) {
	p.fn()
	return p.Writer.Write(b)
}

// TestACopyIsTheStoreAtItsEnd while others write, also if changes fill the memory, come in every gap
// between two pages, and concern records that were read already or not yet.
//
// I15.
func TestACopyIsTheStoreAtItsEnd(t *testing.T) {
	s := openStore(t)
	records := map[string]string{}
	for n := range 5000 {
		records[fmt.Sprintf("k/%05d", n)] = strings.Repeat("v", n%700)
	}
	put(t, s, records)
	random := rand.New(rand.NewPCG(1, 2))
	value, ended := 0, false
	change := func() {
		if ended {
			return
		}
		err := s.Update(t.Context(), func(tx storage.Tx) error {
			for range 20 {
				value++
				key := fmt.Sprintf("k/%05d", random.IntN(6000))
				if random.IntN(4) == 0 {
					if err := tx.Delete(key); err != nil {
						return err
					}
				} else if err := tx.Put(key, fmt.Appendf(nil, "%d %s", value, strings.Repeat("w", 2000))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	var b bytes.Buffer
	source := stopping{s, func() { ended = true }}
	trailer, err := Write(t.Context(), pausing{&b, change}, source, options(t))
	if err != nil {
		t.Fatal(err)
	}
	if trailer.Changes < 400 || trailer.Records < 4000 || trailer.LeftOut != 0 {
		t.Errorf("%+v", trailer)
	}
	got, r, err := restored(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Genuine(testKey) || r.Genuine([]byte("another")) || *r.Trailer() != trailer {
		t.Error("the end is not that of the copy")
	}
	if h := r.Header(); h.Format != 1 || h.Schema != storage.Schema || h.Database != "0123" || h.Program != "1.2.3" || h.Bytes != 5 || h.Begun.IsZero() {
		t.Errorf("header %+v", h)
	}
	compare(t, got, recordsOf(t, s))
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	differ := 0
	for key := range want {
		if got[key] != want[key] {
			differ++
		}
	}
	if differ > 0 || len(got) != len(want) {
		t.Errorf("%d records of %d differ; the copy has %d", differ, len(want), len(got))
	}
}

// TestEveryAcknowledgedChangeIsInTheCopy that is made beside eight writers, and each transaction is in
// it wholly or not at all. Each transaction writes two records, between which lie several pages.
//
// I15.
func TestEveryAcknowledgedChangeIsInTheCopy(t *testing.T) {
	s := openStore(t)
	filling := map[string]string{}
	for n := range 4000 {
		filling[fmt.Sprintf("m/%05d", n)] = ""
	}
	put(t, s, filling)
	var acknowledged [8]atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer cancel()
	for n := range acknowledged {
		writers.Go(func() {
			for i := 1; ctx.Err() == nil; i++ {
				err := s.Update(t.Context(), func(tx storage.Tx) error {
					return errors.Join(tx.Put(fmt.Sprintf("a/%d/%d", n, i), nil), tx.Put(fmt.Sprintf("z/%d/%d", n, i), nil))
				})
				if err != nil {
					t.Error(err)
				}
				acknowledged[n].Store(int64(i))
			}
		})
	}
	for range 30 {
		var before [8]int64
		source := stopping{s, func() {
			for n := range acknowledged {
				before[n] = acknowledged[n].Load()
			}
		}}
		var b bytes.Buffer
		if _, err := Write(t.Context(), &b, source, options(t)); err != nil {
			t.Fatal(err)
		}
		got, _, err := restored(&b)
		if err != nil {
			t.Fatal(err)
		}
		for n, last := range before {
			for i := range last + 100 {
				_, first := got[fmt.Sprintf("a/%d/%d", n, i+1)]
				_, second := got[fmt.Sprintf("z/%d/%d", n, i+1)]
				if first != second || !first && i < last {
					t.Fatalf("transaction %d of writer %d: %v and %v; %d were acknowledged", i+1, n, first, second, last)
				}
			}
		}
	}
}

// A stopping store calls fn before the end of a copy.
type stopping struct {
	*bolt.Store
	fn func()
}

func (s stopping) Follow(ctx context.Context, fn func([]storage.Write)) (func(), error) {
	stop, err := s.Store.Follow(ctx, fn)
	return sync.OnceFunc(func() {
		s.fn()
		stop()
	}), err
}

// TestAReasonIsWholeCharacters, also where it is cut off.
func TestAReasonIsWholeCharacters(t *testing.T) {
	var b bytes.Buffer
	e := newEncoder(&b)
	if err := e.header(Header{Format: version, Schema: storage.Schema}); err != nil {
		t.Fatal(err)
	}
	e.fail(errors.New("x" + strings.Repeat("ü", maxReason)))
	var failed *FailedError
	if _, _, err := restored(&b); !errors.As(err, &failed) || !utf8.ValidString(failed.Reason) || len(failed.Reason) != maxReason-1 {
		t.Errorf("the reader: %q", err)
	}
}

// TestACutOrChangedCopyIsRefused at every byte, and so is what is no copy.
func TestACutOrChangedCopyIsRefused(t *testing.T) {
	good := made(t)
	if _, r, err := restored(bytes.NewReader(good)); err != nil || !r.Genuine(testKey) {
		t.Fatal(err)
	}
	for n := range good {
		_, _, err := restored(bytes.NewReader(good[:n]))
		if want := ErrTruncated; n > 0 && !errors.Is(err, want) {
			t.Fatalf("cut off after %d bytes: %v", n, err)
		}
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(good)
			bad[n] ^= bit
			_, r, err := restored(bytes.NewReader(bad))
			if known := errors.Is(err, ErrDamaged) || errors.Is(err, ErrTruncated) || errors.Is(err, ErrNotBackup) || errors.As(err, new(*VersionError)); !known && r.Genuine(testKey) {
				t.Fatalf("byte %d changed: %v", n, err)
			}
		}
	}
	for name, tt := range map[string]struct {
		in   io.Reader
		want error
	}{
		"nothing":           {strings.NewReader(""), ErrNotBackup},
		"a store":           {bytes.NewReader(append([]byte{0, 1, 2}, make([]byte, 8192)...)), ErrNotBackup},
		"text":              {strings.NewReader("keymill\n"), ErrNotBackup},
		"one byte more":     {bytes.NewReader(append(bytes.Clone(good), 0)), ErrDamaged},
		"twice":             {bytes.NewReader(append(bytes.Clone(good), good...)), ErrDamaged},
		"an endless number": {strings.NewReader(Magic + strings.Repeat("\xff", 20)), ErrDamaged},
		"a huge header":     {strings.NewReader(Magic + "\xff\xff\xff\xff\x0f"), ErrDamaged},
		"a header of text":  {strings.NewReader(Magic + "\x03abc"), ErrDamaged},
		"a broken disk":     {io.MultiReader(bytes.NewReader(good[:40]), iotest.ErrReader(os.ErrPermission)), os.ErrPermission},
	} {
		if _, _, err := restored(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestACopyOfAnotherVersionSaysWhichProgramReadsIt before anything else of it is read.
func TestACopyOfAnotherVersionSaysWhichProgramReadsIt(t *testing.T) {
	for _, header := range []string{
		`{"format":2,"new":[1]}`, `{"format":1,"schema":1}`, `{"format":1,"schema":3,"database_id":7,"program":"9"}`, `{"format":0}`, `{}`,
	} {
		in := Magic + string(rune(len(header))) + header
		if _, err := NewReader(strings.NewReader(in)); !errors.As(err, new(*VersionError)) {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// TestACopyThatFailsLeavesTheStoreAsItWas: the next one can be made, and no file is left.
func TestACopyThatFailsLeavesTheStoreAsItWas(t *testing.T) {
	s := openStore(t)
	records := map[string]string{}
	for n := range 3000 {
		records[fmt.Sprintf("k/%05d", n)] = strings.Repeat("v", 100)
	}
	put(t, s, records)
	write := func() { put(t, s, map[string]string{"k/00001": strings.Repeat("n", 60_000)}) }
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	missing := options(t)
	missing.TempDir = filepath.Join(missing.TempDir, "missing")
	small := options(t)
	small.MaxBytes = 100_000
	for name, tt := range map[string]struct {
		ctx  context.Context
		w    io.Writer
		o    Options
		want string
	}{
		"a full disk":            {t.Context(), pausing{failing{}, write}, options(t), "no space"},
		"a caller who went away": {cancelled, io.Discard, options(t), "context canceled"},
		"too many changes":       {t.Context(), pausing{io.Discard, func() { write(); write() }}, small, "the reader of the backup is too slow"},
		"no place for the changes": {t.Context(), pausing{io.Discard, func() {
			for range 30 {
				write()
			}
		}}, missing, "keep changes: open "},
	} {
		if _, err := Write(tt.ctx, tt.w, s, tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(tt.o.TempDir); len(left) != 0 || err != nil && tt.o.TempDir != missing.TempDir {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
		var b bytes.Buffer
		if _, err := Write(t.Context(), &b, s, options(t)); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
		if got, _, err := restored(&b); err != nil {
			t.Errorf("after %s: %v", name, err)
		} else {
			compare(t, got, recordsOf(t, s))
		}
	}
}

// A failing writer is a full disk.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestOneCopyIsMadeAtATime, because the store has one follower.
func TestOneCopyIsMadeAtATime(t *testing.T) {
	s := openStore(t)
	put(t, s, map[string]string{"a": strings.Repeat("1", 60_000), "b": strings.Repeat("2", 60_000)})
	begun := false
	_, err := Write(t.Context(), pausing{io.Discard, func() {
		if begun {
			return // the rest is written when the first copy has ended
		}
		begun = true
		if _, err := Write(t.Context(), io.Discard, s, options(t)); !errors.Is(err, bolt.ErrFollowed) {
			t.Errorf("a second copy: %v", err)
		}
	}}, s, options(t))
	if err != nil {
		t.Fatal(err)
	}
}

// TestRecordsOfOtherProgramsAreLeftOut and counted: a record that Keymill cannot have written must not
// keep it from making copies.
func TestRecordsOfOtherProgramsAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, map[string]string{"a": "1", "z": "2"})
	s.Close()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("keymill"))
		return errors.Join(b.Put([]byte{0}, nil), b.Put([]byte("b\xff"), nil), b.Put([]byte("\xff\xff"), nil),
			b.Put([]byte(strings.Repeat("k", 300)), nil), b.Put([]byte("c"), make([]byte, 100_000)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = bolt.Open(path, bolt.Options{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b bytes.Buffer
	trailer, err := Write(t.Context(), &b, s, options(t))
	if err != nil || trailer.LeftOut != 5 {
		t.Fatalf("%+v, %v", trailer, err)
	}
	got, _, err := restored(&b)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, map[string]string{"a": "1", "z": "2"})
}

// TestTheTailLeavesRoomOnTheDisk, which is that of the store: the copy fails, and no commit does. The reader
// learns why.
func TestTheTailLeavesRoomOnTheDisk(t *testing.T) {
	tail := &tail{dir: t.TempDir(), max: 1 << 30, room: 1 << 60}
	defer tail.close()
	for range 3 {
		tail.add([]storage.Write{{Key: "k", Value: make([]byte, tailMemory/2)}})
	}
	if err := tail.failed(); err == nil || !strings.Contains(err.Error(), "has less than 1099511627776 MB left") {
		t.Errorf("the tail: %v", err)
	}
	if info, err := tail.file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v, %v", info, err)
	}
	var b bytes.Buffer
	e := newEncoder(&b)
	if err := e.header(Header{Format: version, Schema: storage.Schema}); err != nil {
		t.Fatal(err)
	}
	if err := e.fail(tail.failed()); err != tail.failed() {
		t.Errorf("fail returns %v", err)
	}
	var failed *FailedError
	if _, _, err := restored(&b); !errors.As(err, &failed) || !strings.Contains(failed.Reason, "MB left") {
		t.Errorf("the reader: %v", err)
	}
}
