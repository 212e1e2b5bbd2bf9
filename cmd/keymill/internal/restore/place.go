package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/durable"
	"keymill/storage/sealed"
)

// asideSuffix names the mark of the store that was there, until the new store has its name. A kill can leave it, and
// the next restore removes it.
const asideSuffix = ".before-restore"

// place gives the new store its name, and makes its mark. In between there is no mark, so that no store
// is refused because of the mark of the other.
func (b *builder) place(ctx context.Context) error {
	if b.target != nil {
		return b.placeShared(ctx)
	}
	c := b.Config
	store, mark := c.Path("keymill.db"), c.MarkPath()
	if err := datadir.OwnLike(b.path, c.Data); err != nil {
		return err
	}
	if err := b.change("keep", func() error { return b.keep(store) }); err != nil {
		return err
	}
	aside := mark + asideSuffix
	if err := b.change("unmark", func() error { return b.moveMark(mark, aside) }); err != nil {
		return b.markAgain(aside, mark, err)
	}
	if err := b.change("place", func() error {
		err := os.Rename(b.path, store)
		b.placed = err == nil
		return err
	}); err != nil && !b.placed {
		return b.markAgain(aside, mark, err)
	} else if err != nil {
		return err
	}
	return b.markPlaced(aside, mark)
}

// placeShared writes the new store to the database, and makes the mark of this server.
func (b *builder) placeShared(ctx context.Context) error {
	if err := b.step("fill"); err != nil {
		return err
	}
	own := newClaim()
	if err := own.take(ctx, b.target); err != nil {
		return err
	}
	identity, err := b.fill(ctx, b.target, own)
	if err != nil {
		return own.explain(ctx, b.target, b.Config.StorePlace(), err)
	}
	if err := b.step("identify"); err != nil {
		return err
	}
	mark := b.Config.MarkPath()
	aside := mark + asideSuffix
	if err := b.change("unmark", func() error { return b.moveMark(mark, aside) }); err != nil {
		return b.markAgain(aside, mark, err)
	}
	if err := identify(context.WithoutCancel(ctx), b.target, own, identity); err != nil {
		return b.markAgain(aside, mark, own.explain(ctx, b.target, b.Config.StorePlace(), err))
	}
	b.placed = true
	return b.markPlaced(aside, mark)
}

// markPlaced makes the mark of the new store.
func (b *builder) markPlaced(aside, mark string) error {
	if err := removeIfThere(aside); err != nil {
		return err
	}
	if err := b.step("mark"); err != nil {
		return err
	}
	if err := b.mark(mark); err != nil {
		return terminal.WithHint(fmt.Errorf("the store is restored, but not its mark: %w", err), "the next start makes the mark, and warns that there was none")
	}
	return nil
}

// moveMark renames a mark, if there is one. It is not opened: that would end the lock of this process.
func (b *builder) moveMark(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(to))
}

// markAgain gives the store that stays after all its mark again, and returns why it stays.
func (b *builder) markAgain(aside, mark string, why error) error {
	if err := b.moveMark(aside, mark); err != nil {
		return terminal.WithHint(fmt.Errorf("%w; and the mark of the store that was there is now %s: %w", why, aside, err), "rename it to %s", mark)
	}
	return why
}

// keep gives the store that is there a second name. A file system without hard links moves it instead; a
// crash right after that leaves both stores under other names.
func (b *builder) keep(store string) error {
	if _, err := os.Lstat(store); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	kept := b.Config.Path(before + time.Now().UTC().Format("20060102T150405Z"))
	for n := 2; ; n++ {
		err := b.link(store, kept)
		if !errors.Is(err, fs.ErrExist) {
			b.report.Before = kept
			return err
		}
		kept = fmt.Sprintf("%s-%d", kept[:len(b.Config.Path(before))+len("20060102T150405Z")], n)
	}
}

func (b *builder) mark(path string) error {
	next, err := sealed.OpenMark(path)
	if err != nil {
		return err
	}
	if err := errors.Join(b.rings.WriteMark(next), next.Close()); err != nil {
		return err
	}
	return datadir.OwnLike(path, b.Config.Data)
}

// change makes one durable change of the data directory.
func (b *builder) change(name string, fn func() error) error {
	if err := b.step(name); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return durable.SyncDir(b.Config.Data)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
