package record

import (
	"keymill/storage"
)

// A Span is up to limit records below Prefix, a path that ends in a slash, whose names follow After.
type Span struct {
	Prefix, After string
	Limit         int
}

// Each yields the records of a span. One that cannot be read is passed to damaged, does not count, and
// does not hide the others. Space is the lowest byte of a key, so no key lies between one and the same with
// a space behind it.
func (s Span) Each(r storage.Reader, damaged func(error), each func(name string, raw []byte) error) error {
	start := s.Prefix
	if s.After != "" {
		start += s.After + " "
	}
	end := s.Prefix[:len(s.Prefix)-1] + "0" // '0' follows '/'
	for e, err := range r.Scan(start, end) {
		if s.Limit <= 0 {
			return nil
		}
		if err == nil {
			err = each(e.Key[len(s.Prefix):], e.Value)
		}
		switch {
		case err == nil:
			s.Limit--
		case Unreadable(err):
			damaged(err)
		default:
			return err
		}
	}
	return nil
}
