package storage

import "errors"

// ErrBroken means that the store's own structure is damaged, below the records: a page of its
// file contradicts another one, or cannot be read. What a damaged structure shows cannot be
// trusted, so the store refuses all work from then on, as after ErrUnknownOutcome.
var ErrBroken = errors.New("the store is damaged")
