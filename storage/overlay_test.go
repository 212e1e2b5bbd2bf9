package storage

import (
	"iter"
	"testing"
)

// An emptyReader has no records.
type emptyReader struct{}

func (emptyReader) Get(string) ([]byte, error)               { return nil, ErrNotFound }
func (emptyReader) GetAll(keys ...string) ([][]byte, error)  { return make([][]byte, len(keys)), nil }
func (emptyReader) Scan(_, _ string) iter.Seq2[Entry, error] { return func(func(Entry, error) bool) {} }

func TestATransactionThatHasEndedIsAnError(t *testing.T) {
	o := NewOverlay(emptyReader{})
	o.End()
	for name, use := range map[string]func() error{
		"Get":            func() error { _, err := o.Get("a"); return err },
		"GetAll":         func() error { _, err := o.GetAll("a"); return err },
		"GetAll of none": func() error { _, err := o.GetAll(); return err },
		"Put":            func() error { return o.Put("a", nil) },
		"Delete":         func() error { return o.Delete("a") },
		"Scan": func() (err error) {
			for _, e := range o.Scan("a", "b") {
				err = e
			}
			return err
		},
	} {
		if err := use(); err != errEnded {
			t.Errorf("%s returned %v, want %v", name, err, errEnded)
		}
	}
}
