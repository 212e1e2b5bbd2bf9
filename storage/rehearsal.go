package storage

import (
	"context"
	"errors"
)

// ErrRehearsed is the error of an Update that would have succeeded in a Rehearsal. Nothing was written.
var ErrRehearsed = errors.New("the transaction was only tried, and nothing was written")

type rehearsal struct{}

// Rehearsal returns a context in which a request is tried: an Update of package sealed runs its function, which
// decides and refuses as ever, and then fails with ErrRehearsed instead of writing.
func Rehearsal(ctx context.Context) context.Context {
	return context.WithValue(ctx, rehearsal{}, true)
}

// IsRehearsal reports whether ctx is one of Rehearsal.
func IsRehearsal(ctx context.Context) bool { return ctx.Value(rehearsal{}) != nil }
