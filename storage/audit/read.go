package audit

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"strconv"
	"strings"
	"time"

	"keymill/storage"
)

const (
	maxExamined = 10_000 // records that one Read reads
	maxMoving   = 5 * time.Second

	// maxDelay is more than the time between a decision and its commit. So a record is at most
	// that much older than the records before it.
	maxDelay = time.Minute
)

// A Query selects records.
type Query struct {
	Filter
	Forward bool   // the oldest first; otherwise the newest
	From    Cursor // Next of the page before; zero for the first page
	Limit   int    // at most 1,000
}

// A Cursor is a place in the log. Forward, a page begins with the record after the number Seq, and
// with the waiting record after the key Key. Backward, it ends before the number Seq, or with
// the newest record if Seq is above all numbers.
type Cursor struct {
	Seq uint64
	Key string // the part after audit/new/; "" if no record that waits was read
}

// String returns the cursor as text, "17" or "17/20260301T…".
func (c Cursor) String() string {
	s := strconv.FormatUint(c.Seq, 10)
	if c.Key != "" {
		s += "/" + c.Key
	}
	return s
}

// ParseCursor reads the text of a Cursor.
func ParseCursor(s string) (Cursor, error) {
	number, key, _ := strings.Cut(s, "/")
	seq, err := strconv.ParseUint(number, 10, 63)
	if err != nil || key != "" && storage.CheckKey(newPrefix+key) != nil {
		return Cursor{}, fmt.Errorf("%.100q is not a place in the audit log", s)
	}
	return Cursor{seq, key}, nil
}

// A Page is what a Read found.
type Page struct {
	Records []Record // oldest first
	Next    Cursor   // where the next page begins
	More    bool     // there can be further records
	Last    uint64   // number of the newest record in the chain
}

// Read returns the records that q selects. It reads at most 10,000, and has a cursor for the rest.
//
// It first moves the records that wait into the chain, so it shows every decision whose call has
// answered. Each record has its number then. A reader that follows the numbers misses none and gets
// none twice, however many records are moved between two pages.
//
// If the store cannot be written, because it is read-only, full or damaged, Read also reads the
// records that wait. They have no number (Seq is 0) and come after all that have one, by time.
func Read(ctx context.Context, s storage.Store, q Query) (Page, error) {
	moving, cancel := context.WithTimeout(ctx, maxMoving)
	_, err := Chain(moving, s)
	cancel()
	if q.Limit = min(q.Limit, maxPage); q.Limit <= 0 {
		return Page{}, nil
	}
	q.Filter = q.wholeSeconds()
	d := reading{q: q, Page: Page{Next: q.From, More: true}, waiting: err != nil, begins: true}
	for d.More && !d.full() {
		var next reading
		if err := s.View(ctx, func(r storage.Reader) error {
			next = d // each run of the function begins here
			return next.view(r)
		}); err != nil {
			return Page{}, err
		}
		d = next
	}
	return d.Page, nil
}

// A reading is a Read under way.
type reading struct {
	Page
	q        Query
	begins   bool // no View has read anything
	waiting  bool // the records that wait are still to be read
	examined int  // records of the chain
	left     int  // records that this View may still read
}

// full reports whether the page is complete. Backward, the records that wait are all read, because the
// last ones are the newest.
func (d *reading) full() bool {
	return d.examined >= maxExamined || len(d.Records) >= d.q.Limit && (d.q.Forward || !d.waiting)
}

// view reads up to maxPage records in one View.
func (d *reading) view(r storage.Reader) (err error) {
	d.left = min(maxPage, maxExamined-d.examined)
	if d.begins || d.q.Forward { // backward, a reader of newer records begins after the first Last
		if d.Last, err = lastSeq(r); err != nil {
			return err
		}
	}
	if d.begins {
		d.begins = false
		if err := d.begin(r); err != nil {
			return err
		}
	}
	if d.q.Forward {
		return d.forward(r)
	}
	if d.waiting {
		if err := d.readWaiting(r); err != nil || d.waiting {
			return err
		}
	}
	return d.backward(r)
}

// begin finds the place of the first record.
func (d *reading) begin(r storage.Reader) (err error) {
	switch {
	case d.q.From != (Cursor{}):
		d.waiting = d.waiting && d.q.Forward // backward, they are on the first page
		if !d.q.Forward {
			d.Next.Seq = min(d.Next.Seq, d.Last+1)
		}
	case d.q.Forward && !d.q.Since.IsZero():
		d.Next.Seq, err = bisect(r, d.Last, func(s timeSpan) bool { return s.n == 0 || !s.newest.Before(d.q.Since.Add(-maxDelay)) })
		d.Next.Seq--
	case !d.q.Forward && !d.q.Until.IsZero():
		d.Next.Seq, err = bisect(r, d.Last, func(s timeSpan) bool { return s.oldest.After(d.q.Until.Add(maxDelay)) })
	case !d.q.Forward:
		d.Next.Seq = d.Last + 1
	}
	d.left -= searched * bits.Len64(d.Last)
	return err
}

// forward reads the records after d.Next, and at the end of the chain those that wait. It does not
// read what is behind the end, so an inserted record never moves the cursor over later ones.
func (d *reading) forward(r storage.Reader) error {
	var span timeSpan
	for e, err := range scanLog(r, d.Next.Seq+1, d.Last) {
		if isFault(err) {
			return err
		}
		if d.left == 0 || len(d.Records) == d.q.Limit {
			d.More = d.q.Until.IsZero() || !span.oldest.After(d.q.Until.Add(maxDelay))
			return nil
		}
		var isNumber bool
		d.examined++
		d.left--
		if d.Next.Seq, isNumber = place(e.Key); isNumber {
			span.add(d.read(e, err).Time)
		}
	}
	d.More = false
	if d.waiting {
		return d.readWaiting(r)
	}
	return nil
}

// backward reads the records before d.Next: those of up to 1,000 numbers. If none of them is there, the
// next ones begin with the newest record below.
func (d *reading) backward(r storage.Reader) error {
	newer := d.Records
	if len(newer) == d.q.Limit {
		return nil
	}
	most := d.left
	if d.q.Filter == (Filter{}) {
		most = min(most, d.q.Limit-len(newer))
	}
	end := max(d.Next.Seq, 1)
	start := max(end, uint64(most)+1) - uint64(most)
	var span timeSpan
	empty := true
	d.Records = nil
	for e, err := range scanLog(r, start, end-1) {
		if isFault(err) {
			return err
		}
		d.examined++
		empty = false
		if _, isNumber := place(e.Key); isNumber {
			span.add(d.read(e, err).Time)
		}
	}
	if empty {
		below, err := lastPlace(r, start)
		if err != nil {
			return err
		}
		start = below + 1
	}
	tooOld := span.n > 0 && !d.q.Since.IsZero() && span.newest.Before(d.q.Since.Add(-maxDelay))
	d.Next.Seq, d.More = start, start > 1 && !tooOld
	if surplus := len(d.Records) + len(newer) - d.q.Limit; surplus > 0 {
		d.Records = d.Records[surplus:]
		d.Next.Seq, d.More = d.Records[0].Seq, true
	}
	d.Records = append(d.Records, newer...)
	return nil
}

// readWaiting reads the records that wait. If that are more than one View may read, d.waiting stays
// true. Backward, the newest of them are kept.
func (d *reading) readWaiting(r storage.Reader) error {
	start := newPrefix
	if d.Next.Key != "" {
		start += d.Next.Key + " " // the lowest byte of a key, so only d.Next.Key is left out
	}
	for e, err := range r.Scan(start, newEnd) {
		if isFault(err) {
			return err
		}
		if d.left == 0 || d.q.Forward && len(d.Records) == d.q.Limit {
			d.More = true
			return nil
		}
		d.left--
		d.read(e, err)
		d.Next.Key = strings.TrimPrefix(e.Key, newPrefix)
		if !d.q.Forward && len(d.Records) > d.q.Limit {
			d.Records = d.Records[1:]
		}
	}
	d.waiting = false
	if !d.q.Forward {
		d.Next.Key = ""
	}
	return nil
}

// read adds the record of e if the query selects it.
func (d *reading) read(e storage.Entry, damage error) Record {
	record := decode(e, damage)
	if d.q.matches(record) {
		d.Records = append(d.Records, record)
	}
	return record
}

// A timeSpan is the times of some records.
type timeSpan struct {
	n              int
	oldest, newest time.Time
}

// add leaves out the zero time, which a damaged record has.
func (s *timeSpan) add(t time.Time) {
	if t.IsZero() {
		return
	}
	if s.n == 0 || t.Before(s.oldest) {
		s.oldest = t
	}
	if s.n == 0 || t.After(s.newest) {
		s.newest = t
	}
	s.n++
}

// searched is how many records bisect compares at each place. A change of the master key is recorded
// with the wall clock, which the clock of decisions need not agree with: one such record among
// others does not mislead the search.
const searched = 3

// bisect returns the number of the first record from which on found is true, by halving. found gets
// the times of a few records; none if there is damage only.
func bisect(r storage.Reader, last uint64, found func(timeSpan) bool) (uint64, error) {
	var failed error
	n := sort.Search(int(last), func(n int) bool {
		var span timeSpan
		read := 0
		for e, err := range scanLog(r, uint64(n)+1, last) {
			if isFault(err) {
				failed = errors.Join(failed, err)
				break
			}
			if _, isNumber := place(e.Key); isNumber {
				span.add(decode(e, err).Time)
			}
			if read++; span.n == searched || read == maxPage {
				break
			}
		}
		return found(span)
	})
	return uint64(n) + 1, failed
}
