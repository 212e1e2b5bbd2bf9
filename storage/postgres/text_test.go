package postgres

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"

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
	alone, locks := locksOf(batch(reads("a", 1), reads("b", 1), reads("c", 1), puts("b", "", "d", "")))
	if alone || len(locks) != 4 {
		t.Fatalf("%t %v", alone, locks)
	}
	last := int32(0)
	for _, l := range locks {
		number := max(l, -l)
		if number <= last || number > keyLocks {
			t.Errorf("not in order: %v", locks)
		}
		last = number
		if (number == lockOf("b") || number == lockOf("d")) != (l > 0) {
			t.Errorf("lock %d is alone for a key that was read, or shared for one that is written", l)
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
