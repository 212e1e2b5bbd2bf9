package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"testing"

	"keymill/storage"
)

// metaFields are the fields of a meta page, with its header before them.
var metaFields = []struct {
	name     string
	at, size int
}{
	{"id", 0, 8}, {"type", 8, 2}, {"count", 10, 2}, {"overflow", 12, 4},
	{"magic", 16, 4}, {"version", 20, 4}, {"page size", 24, 4}, {"flags", 28, 4}, {"root", 32, 8}, {"sequence", 40, 8},
	{"free list", 48, 8}, {"number of pages", 56, 8}, {"transaction", 64, 8}, {"checksum", 72, 8},
}

// TestAWrongBitOfAMetaPageNeverUndoesAChange: each bit of both pages, after each of four transactions, because a wrong
// bit can turn the number of the newest one into that of the one before. The newest state is found, or the file is
// refused.
//
// I28.
func TestAWrongBitOfAMetaPageNeverUndoesAChange(t *testing.T) {
	path := storeOf(t)
	for n := range 4 {
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, fmt.Sprintf("more %d", n), "")
		s.Close()
		whole, newest := readStore(t, path)
		for page := range firstPage {
			isNewest := uint64(page) == newest.txid%2
			for _, f := range metaFields {
				for bit := range 8 * f.size {
					b := bytes.Clone(whole[:firstPage*os.Getpagesize()])
					b[page*os.Getpagesize()+f.at+bit/8] ^= 1 << (bit % 8)
					m, err := newestMeta(bytes.NewReader(b))
					header := f.at < pageHeaderBytes
					refused := !header && (isNewest || f.name == "transaction")
					if refused != errors.Is(err, errMeta) || !refused && (err != nil || m.txid != newest.txid) {
						t.Errorf("transaction %d, page %d, %s, bit %d: %d, %v", newest.txid, page, f.name, bit, m.txid, err)
					}
				}
			}
		}
	}
}

// TestADamagedMetaPageIsOneLine wherever it is, and for each way to open the file. A store that opens reads and
// writes everything, says what is wrong with the page, and has mended it after two changes.
//
// I28.
func TestADamagedMetaPageIsOneLine(t *testing.T) {
	path := storeOf(t)
	whole, newest := readStore(t, path)
	size := os.Getpagesize()
	for page := range firstPage {
		for _, f := range metaFields {
			b := bytes.Clone(whole)
			copy(b[page*size+f.at:], bytes.Repeat([]byte{0xa5}, f.size))
			write(t, path, whole, b)
			name := fmt.Sprintf("page %d of %d, %s", page, newest.txid%2, f.name)
			readOnly, readErr := OpenReadOnly(path)
			if readErr == nil {
				err := readOnly.CheckUnused(t.Context())
				wantLine(t, name, err, fmt.Sprintf("meta page %d", page))
				readOnly.Close()
				if err := CheckFile(t.Context(), path, func(int) {}); err != nil {
					t.Errorf("%s: the check of the pages: %v", name, err)
				}
			}
			s, err := Open(path, Options{})
			if (err == nil) != (readErr == nil) {
				t.Errorf("%s: Open gives %v, OpenReadOnly %v", name, err, readErr)
			}
			if err != nil {
				wantLine(t, name, err, "one of the two meta pages")
			} else {
				put(t, s, "one", "")
				put(t, s, "two", "")
				if err := errors.Join(s.CheckUnused(t.Context()), s.Check(t.Context())); err != nil {
					t.Errorf("%s, after two changes: %v", name, err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAnImpossibleTransactionIsRefused by each way to open the file: bbolt would count over the largest number, and
// the older meta page would be the newest.
//
// I28.
func TestAnImpossibleTransactionIsRefused(t *testing.T) {
	path := storeOf(t)
	whole, newest := readStore(t, path)
	size := os.Getpagesize()
	at := int(newest.txid%2) * size
	for txid, refused := range map[uint64]bool{
		newest.txid + 2: false, maxTransaction: false, maxTransaction + 1: true, 1<<63 - 1: true, 1 << 63: true, 1<<64 - 2: true, 1<<64 - 1: true,
	} {
		b := bytes.Clone(whole)
		binary.NativeEndian.PutUint64(b[at+64:], txid)
		sum := fnv.New64a()
		sum.Write(b[at+pageHeaderBytes : at+72])
		binary.NativeEndian.PutUint64(b[at+72:], sum.Sum64())
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		readOnly, readErr := OpenReadOnly(path)
		if readErr == nil {
			readOnly.Close()
		}
		s, err := Open(path, Options{})
		if !refused {
			if err := errors.Join(readErr, err); err != nil {
				t.Fatalf("transaction %d: %v", txid, err)
			}
			put(t, s, "one", "")
			put(t, s, "two", "")
			if err := errors.Join(s.Check(t.Context()), s.Close()); err != nil {
				t.Errorf("transaction %d, after two changes: %v", txid, err)
			}
			continue
		}
		for _, err := range []error{readErr, err, CheckFile(t.Context(), path, func(int) {})} {
			wantLine(t, fmt.Sprint(txid), err, fmt.Sprintf("transaction %d, and no store", txid))
		}
	}
}

// wantLine requires one line that says want, and nothing of a panic.
func wantLine(t *testing.T, name string, err error, want string) {
	t.Helper()
	text := fmt.Sprint(err)
	if !errors.Is(err, storage.ErrBroken) || !strings.Contains(text, want) || len(text) > 400 {
		t.Errorf("%s: %v", name, err)
	}
	for _, word := range []string{"\n", "assert", "panic", "goroutine", "expected to be"} {
		if strings.Contains(text, word) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestACopyOfTheOtherMetaPageIsRefused: bbolt never writes one transaction into both, and with the copy of the older
// one the last change would be undone. An exchange of both loses nothing.
//
// I28.
func TestACopyOfTheOtherMetaPageIsRefused(t *testing.T) {
	for more := range 2 { // the newest is in either page
		path := storeOf(t)
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range more {
			put(t, s, fmt.Sprint("more", n), "")
		}
		s.Close()
		whole, newest := readStore(t, path)
		size := os.Getpagesize()
		first, second := whole[:size], whole[size:2*size]
		for _, mended := range []bool{false, true} {
			number := func(b []byte) []byte {
				for n := range firstPage {
					if mended {
						binary.NativeEndian.PutUint64(b[n*size:], uint64(n))
					}
				}
				return b
			}
			for what, b := range map[string][]byte{
				"the first twice": number(append(bytes.Clone(first), first...)), "the second twice": number(append(bytes.Clone(second), second...)),
			} {
				if m, err := newestMeta(bytes.NewReader(b)); !errors.Is(err, errSameMeta) {
					t.Errorf("%s: transaction %d of %d, %v", what, m.txid, newest.txid, err)
				}
			}
			exchanged := number(append(bytes.Clone(second), first...))
			if m, err := newestMeta(bytes.NewReader(exchanged)); err != nil || m.txid != newest.txid {
				t.Errorf("exchanged: transaction %d of %d, %v", m.txid, newest.txid, err)
			}
		}
	}
}
