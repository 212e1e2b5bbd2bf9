package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/moved"
)

// A place is a store without its tags that this process has open.
type place struct {
	storage.Store
	// records returns all records in key order.
	records func(ctx context.Context) iter.Seq2[storage.Entry, error]
	// load makes the writes that next returns, in key order, until io.EOF. Each of its transactions calls guard first, and
	// writes nothing after an error of it. written is told how many are durable.
	load func(ctx context.Context, guard func(storage.Reader) error, next func() (storage.Write, error), written func(writes int)) error

	unlock func() // what only this process has; may be nil
}

// Close closes the store, and lets others have it.
func (p *place) Close() error {
	err := p.Store.Close()
	if p.unlock != nil {
		p.unlock()
	}
	return err
}

// A file is the store in a data directory that no server has.
type file struct{ *bolt.Store }

// openFile locks a data directory and opens its store. With create it makes the directory and an empty store if they are
// missing.
func openFile(path string, create bool) (*place, error) {
	name := filepath.Join(path, storeName)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) && !create {
		return nil, terminal.WithHint(fmt.Errorf("%w at %s", errNoStore, path), "name the data directory of the server, or mount its volume")
	}
	if err := datadir.Check(path); err != nil {
		return nil, err
	}
	dir, err := datadir.Open(path, create)
	if err != nil {
		return nil, err
	}
	store, err := bolt.Open(name, bolt.Options{})
	if err == nil && create {
		err = datadir.OwnLike(name, path)
	}
	if err != nil {
		dir.Undo()
		return nil, namedfile.Denied(namedfile.Need{Path: name, Use: namedfile.ToWrite}, err)
	}
	f := file{store}
	return &place{store, f.records, f.load, dir.Undo}, nil // a store keeps the directory; the lock file goes, if there was none
}

// records is that of a place.
func (f file) records(ctx context.Context) iter.Seq2[storage.Entry, error] {
	return storage.Records(ctx, f)
}

// Bounds of load: of one Update, and of how many share a commit.
const (
	loadKeys     = storage.MaxUpdateKeys
	loadBytes    = storage.MaxUpdateBytes / 2
	loadParallel = 64
)

// load is that of a place. Updates that run at the same time share a commit.
func (f file) load(ctx context.Context, guard func(storage.Reader) error, next func() (storage.Write, error), written func(int)) error {
	for ended := false; !ended; {
		var group sync.WaitGroup
		var failed [loadParallel]error
		var unread error // of next
		count := 0
		for n := 0; n < loadParallel && !ended; n++ {
			var batch []storage.Write
			batch, unread = storage.NextWrites(next, loadKeys, loadBytes)
			ended = unread != nil
			count += len(batch)
			group.Go(func() { failed[n] = f.write(ctx, guard, batch) })
		}
		group.Wait()
		if ended && !errors.Is(unread, io.EOF) {
			return unread
		}
		if err := errors.Join(failed[:]...); err != nil {
			return err
		}
		written(count)
	}
	return nil
}

func (f file) write(ctx context.Context, guard func(storage.Reader) error, batch []storage.Write) error {
	return f.Update(ctx, func(tx storage.Tx) error {
		if err := guard(tx); err != nil {
			return err
		}
		for _, w := range batch {
			var err error
			if w.Deleted {
				err = tx.Delete(w.Key)
			} else {
				err = tx.Put(w.Key, w.Value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// A source is the store that is moved. This process or a server has it open.
type source struct {
	// look returns what the store is, and the record of its migration.
	look func(ctx context.Context) (facts, error)
	// step takes a step of a migration, see moved.Do.
	step func(ctx context.Context, q moved.Request) error
	// records returns all records in key order. None is written from the step "begin" on.
	records func(ctx context.Context) iter.Seq2[storage.Entry, error]
	close   func() error
}

// facts are what a migration has to know of a source.
type facts struct {
	Meta   storage.Meta
	Bytes  int64         // about; for the progress
	Record *moved.Record // nil if it has none
}

// sourceOf returns a source that this process has open.
func sourceOf(p *place) *source {
	return &source{
		look: func(ctx context.Context) (facts, error) { return lookAt(ctx, p) },
		step: func(ctx context.Context, q moved.Request) error {
			_, err := moved.Do(ctx, p, q)
			return err
		},
		records: p.records,
		close:   p.Close,
	}
}

func lookAt(ctx context.Context, s storage.Store) (f facts, err error) {
	err = s.View(ctx, func(r storage.Reader) (err error) {
		if f.Record, err = moved.Read(r); err != nil {
			return err
		}
		f.Meta, err = storage.ReadMeta(r)
		return err
	})
	f.Bytes = s.Status().Bytes
	return f, err
}

// isFull reports whether an error says that a disk is full.
func isFull(err error) bool {
	return errors.Is(err, storage.ErrNoSpace) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
