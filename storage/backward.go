package storage

import (
	"context"
	"errors"
	"slices"
)

// Backward reads keys that begin with a time, the newest first. A Scan has one direction, so it reads
// windows of time, each before the last one: narrower ones if a window has too many keys, and wider
// ones after a window with few.
type Backward struct {
	Store Store
	Key   func(at uint64) string // the first key of an instant, in any unit
	End   string                 // only keys before it
	At    uint64                 // instant of End; 0 after the last window
	Width uint64                 // of the first window
}

const windowKeys = 1000 // that one View reads at most

// Next returns the keys of the next window, newest first: fewer than 1,000, perhaps none. End and At
// are its beginning afterwards.
func (b *Backward) Next(ctx context.Context) (keys []string, err error) {
	for {
		start := b.At - min(b.At, b.Width)
		if keys, err = b.window(ctx, b.Key(start)); err != nil {
			return nil, err
		}
		if len(keys) < windowKeys || b.Width <= 1 {
			b.At, b.End = start, b.Key(start)
			break
		}
		b.Width = max(b.Width/16, 1) // these may be only the oldest of the window
	}
	if len(keys) < windowKeys/4 {
		b.Width = max(b.Width, 2*b.Width) // unless that overflows
	}
	slices.Reverse(keys)
	return keys, nil
}

func (b *Backward) window(ctx context.Context, start string) (keys []string, err error) {
	err = b.Store.View(ctx, func(r Reader) error {
		keys = nil // of an earlier run
		for e, err := range r.Scan(start, b.End) {
			if err != nil && !errors.Is(err, ErrDamaged) { // the keys are read, and no value
				return err
			}
			if keys = append(keys, e.Key); len(keys) == windowKeys {
				break
			}
		}
		return nil
	})
	return keys, err
}
