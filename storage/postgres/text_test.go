package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// TestTextBoundsMeanTheSame: a key is on the same side of a bound of any bytes and of the text for it.
func TestTextBoundsMeanTheSame(t *testing.T) {
	alphabet := []string{"a", "~", "\x00", "\x01", "\x7f", "\x80", "\xbf", "\xc3", "\xed", "\xf4", "\xf5", "\xff", "é", "￿", "\U0010ffff", "\ud7ff", "\ue000"}
	word := func(letters []string, most int) string {
		s := ""
		for range rand.IntN(most + 1) {
			s += letters[rand.IntN(len(letters))]
		}
		return s
	}
	var letters []string // of texts
	for _, l := range alphabet {
		if utf8.ValidString(l) && l != "\x00" {
			letters = append(letters, l)
		}
	}
	for range 200_000 {
		bound, key := word(alphabet, 3), word(letters, 3)
		text, some := atLeast(bound)
		if !utf8.ValidString(text) || text < bound && some {
			t.Fatalf("the text for %q is %q", bound, text)
		}
		if (key >= bound) != (some && key >= text) {
			t.Fatalf("the text for %q is %q, %t, and %q is on different sides", bound, text, some, key)
		}
	}
}

// TestEveryCommitTakesItsLocksInOneOrder, each once, and alone where it writes.
func TestEveryCommitTakesItsLocksInOneOrder(t *testing.T) {
	written := map[int32]bool{}
	b := batch(reads("a", 1), reads("b", 1), reads("keyring", 1), puts("b", "", storage.MovedKey, ""))
	for i := range 200 {
		b.Reads = append(b.Reads, optimistic.Record{Key: fmt.Sprint("read/", i)})
		b.Writes = append(b.Writes, storage.Write{Key: fmt.Sprint("written/", i)})
	}
	for _, r := range b.Reads {
		written[lockOf(r.Key)] = false
	}
	for _, w := range b.Writes {
		written[lockOf(w.Key)] = true
	}
	alone, locks := locksOf(b)
	if alone || len(locks) != len(written) {
		t.Fatalf("%t, %d locks for %d keys", alone, len(locks), len(written))
	}
	last := int32(0)
	for _, l := range locks {
		number := max(l, -l)
		if number <= last {
			t.Errorf("lock %d comes after %d", number, last)
		}
		last = number
		if exclusive, known := written[number]; !known || exclusive != (l > 0) {
			t.Errorf("lock %d: it belongs to a key: %t, that is written: %t", l, known, exclusive)
		}
	}
	if alone, locks := locksOf(batch(scanned("a", "b"), puts("c", ""))); !alone || len(locks) != 0 {
		t.Errorf("a batch with a span: %t %v", alone, locks)
	}
	many := &optimistic.Batch{}
	for i := range 2*maxLocks + 1 {
		many.Reads = append(many.Reads, optimistic.Record{Key: string(rune('a' + i))})
	}
	if alone, _ := locksOf(many); !alone {
		t.Error("a batch with very many keys takes a lock for each")
	}
}
