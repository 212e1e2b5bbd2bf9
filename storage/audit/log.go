package audit

import (
	"errors"
	"fmt"
	"iter"
	"sort"
	"strconv"
	"strings"

	"keymill/storage"
)

const (
	seqDigits = 20
	maxSeq    = 1 << 62 // no log becomes that long; a higher number is damage
)

func logKey(seq uint64) string { return fmt.Sprintf("%s%0*d", logPrefix, seqDigits, seq) }

// place returns the number of a key of the log. For a key that is not a number of the log it returns
// false and the number after which the key sorts.
func place(key string) (seq uint64, isNumber bool) {
	begin := key[:min(len(key), len(logPrefix)+seqDigits)]
	seq, err := strconv.ParseUint(strings.TrimPrefix(begin, logPrefix), 10, 64)
	if err == nil && seq <= maxSeq && begin == logKey(seq) {
		return seq, key == begin && seq > 0
	}
	return uint64(sort.Search(maxSeq, func(n int) bool { return logKey(uint64(n)+1) > key })), false
}

// scanLog is a Scan of the numbers from first to last. Of the other keys between two numbers it yields
// only the first one, so that any number of inserted keys costs little.
func scanLog(r storage.Reader, first, last uint64) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for first <= last {
			next := last + 1
			for e, err := range r.Scan(logKey(first), logKey(last+1)) {
				if !yield(e, err) || isFault(err) {
					return
				}
				if seq, isNumber := place(e.Key); !isNumber {
					next = seq + 1
					break
				}
			}
			first = next
		}
	}
}

// lastPlace returns the place of the last key before the number end, 0 if there is none.
func lastPlace(r storage.Reader, end uint64) (uint64, error) {
	var failed error
	n := sort.Search(int(end)-1, func(n int) bool {
		for _, err := range r.Scan(logKey(uint64(n)+1), logKey(end)) {
			if isFault(err) {
				failed = err
			}
			return false
		}
		return true
	})
	return uint64(n), failed
}

// firstWhole returns the number and the bytes of the first whole record whose number is at least seq;
// 0 if there is none. It reads at most 1,000 keys, so it does not see what is behind more damage.
func firstWhole(r storage.Reader, seq uint64) (uint64, []byte, error) {
	read := 0
	for e, err := range scanLog(r, seq, maxSeq) {
		if isFault(err) {
			return 0, nil, err
		}
		if err == nil {
			if record, err := decodeChained(e.Key, e.Value); err == nil {
				return record.Seq, e.Value, nil
			}
		}
		if read++; read == maxPage {
			break
		}
	}
	return 0, nil, nil
}

// lastRecord returns the end of the chain: the head, or the last whole record if there is one after the
// head or no head. A damaged record behind the end does not count, because any writer of the store can
// insert one. It bisects, because a Scan has one direction only.
func lastRecord(r storage.Reader) (head, error) {
	last, err := readHead(r)
	if errors.Is(err, ErrDamaged) {
		last, err = emptyHead(), nil
	}
	for err == nil {
		var next uint64
		if next, _, err = firstWhole(r, last.Seq+1); err != nil || next == 0 {
			break
		}
		// Before each step the last record has a number below last.Seq + 2 * step.
		for step := uint64(maxSeq); step > 0 && err == nil; step /= 2 {
			var seq uint64
			var stored []byte
			if seq, stored, err = firstWhole(r, last.Seq+step); seq != 0 {
				last = head{Seq: seq, Hash: hash(stored)}
			}
		}
	}
	return last, err
}

// lastSeq returns the number of the newest record in the chain.
func lastSeq(r storage.Reader) (uint64, error) {
	last, err := lastRecord(r)
	return last.Seq, err
}

// lastTaken returns the highest of the n numbers after seq under which there is a record, whole or
// damaged; 0 if there is none.
func lastTaken(r storage.Reader, seq uint64, n int) (uint64, error) {
	for at := seq + uint64(n); at > seq; at-- {
		if _, err := r.Get(logKey(at)); !errors.Is(err, storage.ErrNotFound) {
			if isFault(err) {
				return 0, err
			}
			return at, nil
		}
	}
	return 0, nil
}
