package backupfile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// An Input is a backup that an operator named, decrypted.
type Input struct {
	io.Reader
	progress *terminal.Progress
	ctx      context.Context
	file     *namedfile.File // nil for standard input
}

// A Source names a backup.
type Source struct {
	Name       string    // "-" is Stdin
	Stdin      io.Reader // read if Name says so
	Identities []string  // files of secret keys, which open an encrypted backup
}

// OpenInput opens a backup. progress shows how much was read, until the end of the input. A read ends with
// ctx, also one that waits for the program at the other end of a pipe.
func OpenInput(ctx context.Context, s Source, progress *terminal.Progress) (_ *Input, err error) {
	ids, err := Identities(s.Identities)
	if err != nil {
		return nil, err
	}
	in := &Input{progress: progress, ctx: ctx}
	from, total := s.Stdin, int64(0)
	if s.Name != "-" {
		if in.file, err = namedfile.Open(s.Name); err != nil {
			return nil, err
		}
		from = in.file
		if info, err := in.file.Stat(); err == nil {
			total = info.Size()
		}
	}
	from = &interruptible{ctx: ctx, in: from, done: make(chan struct{}, 1)}
	if in.Reader, err = Open(&counter{in: from, shown: progress, total: total}, ids); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// Read implements io.Reader. It ends the line of progress at the end: what follows prints its own.
func (in *Input) Read(b []byte) (int, error) {
	n, err := in.Reader.Read(b)
	if err != nil {
		in.progress.End()
	}
	return n, err
}

// Close closes the file.
func (in *Input) Close() {
	in.progress.End()
	if in.file != nil && in.ctx.Err() == nil { // else a read may have it, and Close would wait for that
		in.file.Close()
	}
}

// An interruptible reader ends a read when ctx ends. The read of in goes on in its goroutine, and what it gets
// is lost.
type interruptible struct {
	ctx  context.Context
	in   io.Reader
	buf  []byte // of the goroutine until it is done
	n    int
	err  error
	done chan struct{}
}

// Read implements io.Reader.
func (r *interruptible) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if len(r.buf) < len(b) {
		r.buf = make([]byte, len(b))
	}
	go func() {
		r.n, r.err = r.in.Read(r.buf[:len(b)])
		r.done <- struct{}{}
	}()
	select {
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	case <-r.done:
		return copy(b, r.buf[:r.n]), r.err
	}
}

const maxSetBytes = 1 << 20

// KeySet returns the keys of a key set (RFC 7517, section 5) in a file.
func KeySet(name string) ([][]byte, error) {
	raw, err := namedfile.Read(name, maxSetBytes)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(raw, &set) != nil || len(set.Keys) == 0 {
		return nil, terminal.WithHint(fmt.Errorf("%s is not a key set with keys", name), "it is what /.well-known/jwks.json answers")
	}
	keys := make([][]byte, len(set.Keys))
	for n, k := range set.Keys {
		keys[n] = k
	}
	return keys, nil
}
