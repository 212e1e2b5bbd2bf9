package record

import (
	"context"

	"keymill/storage"
)

// A Span is up to limit records below Prefix, a path that ends in a slash, whose names follow After.
type Span struct {
	Prefix, After string
	Limit         int
}

// Each yields the records of a span. One that cannot be read is passed to setAside, does not count, and
// does not hide the others. Space is the lowest byte of a key, so no key lies between one and the same with
// a space behind it.
func (s Span) Each(r storage.Reader, setAside func(error), each func(name string, raw []byte) error) error {
	start := s.Prefix
	if s.After != "" {
		start += s.After + " "
	}
	end := storage.EndOf(s.Prefix)
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
			setAside(err)
		default:
			return err
		}
	}
	return nil
}

// View is a View of the store. What fn sets aside is passed to damaged after it: a log line takes time, and
// fn may run more than once.
func View(ctx context.Context, s storage.Store, damaged func(error), fn func(r storage.Reader, setAside func(error)) error) error {
	var aside []error
	err := s.View(ctx, func(r storage.Reader) error {
		aside = nil
		return fn(r, func(err error) { aside = append(aside, err) })
	})
	report(aside, damaged)
	return err
}

// Update is an Update of the store, and otherwise as View.
func Update(ctx context.Context, s storage.Store, damaged func(error), fn func(tx storage.Tx, setAside func(error)) error) error {
	var aside []error
	err := s.Update(ctx, func(tx storage.Tx) error {
		aside = nil
		return fn(tx, func(err error) { aside = append(aside, err) })
	})
	report(aside, damaged)
	return err
}

func report(aside []error, damaged func(error)) {
	for _, err := range aside {
		damaged(err)
	}
}
