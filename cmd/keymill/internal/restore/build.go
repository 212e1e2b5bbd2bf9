package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/epoch"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/backup"
	"keymill/storage/bolt"
)

// A builder makes the new store.
type builder struct {
	Options
	path   string           // of the new store, until it is placed
	target *openstore.Store // the database that gets it; nil for a file
	rings  *keystore.Rings
	report Report
	placed bool // the new store has its name
}

// build makes the new store at its path.
func (b *builder) build(ctx context.Context) error {
	r, err := b.copyRecords(ctx)
	if err != nil {
		return err
	}
	b.report.Header, b.report.Trailer, b.report.Sessions = r.Header(), *r.Trailer(), b.KeepSessions
	if err := b.checkCopy(ctx, r); err != nil {
		return err
	}
	store, err := bolt.Open(b.path, bolt.Options{})
	if err != nil {
		return err
	}
	return errors.Join(b.renew(ctx, store), store.Close())
}

// copyRecords makes a store of the backup, as it is.
func (b *builder) copyRecords(ctx context.Context) (*backup.Reader, error) {
	r, err := backup.NewReader(b.In)
	if err != nil {
		return nil, b.explain(err)
	}
	if err := b.step("build"); err != nil {
		return nil, err
	}
	err = bolt.Build(b.path, func() (storage.Write, error) {
		if err := ctx.Err(); err != nil {
			return storage.Write{}, err
		}
		w, err := r.Next()
		if err != nil && err != io.EOF {
			err = b.explain(err)
		}
		return w, err
	})
	if errors.Is(err, syscall.ENOSPC) {
		err = terminal.WithHint(err, "the new store is made beside the one that is there, so the disk needs room for both")
	}
	return r, err
}

// explain adds the name of the backup to an error of it, and what to do.
func (b *builder) explain(err error) error {
	err = fmt.Errorf("%s: %w", b.Name, err)
	switch {
	case errors.Is(err, backup.ErrNotBackup):
		return terminal.WithHint(err, "\"keymill backup FILE\" makes one")
	case errors.Is(err, backup.ErrTruncated), errors.Is(err, backup.ErrDamaged):
		return terminal.WithHint(err, "use another backup")
	}
	return err
}

// checkCopy checks the store that copyRecords has made: who wrote it, and each record.
func (b *builder) checkCopy(ctx context.Context, r *backup.Reader) (err error) {
	store, err := bolt.OpenReadOnly(b.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	meta, err := serve.Identify(ctx, store, b.Config)
	if err == nil {
		err = b.checkDatabase(ctx, meta.DatabaseID)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	if meta.Dev && !b.Config.Dev {
		return terminal.WithHint(fmt.Errorf("%s: the backup is of a trial store, which serve --dev has made", b.Name),
			"restore it into the directory of that server, or into one with a copy of its file dev-master-key")
	}
	key, err := keystore.BackupKey(ctx, store, b.Master)
	if errors.Is(err, keystore.ErrMasterKey) {
		return terminal.WithHint(fmt.Errorf("%s: %w", b.Name, err), "use the master key that the server had when the backup was made")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.Name, err)
	}
	if !r.Genuine(key) {
		return terminal.WithHint(fmt.Errorf("%s: the backup was changed, or put together, by someone without the master key", b.Name), "use another backup")
	}
	for _, f := range diagnose.CheckCopy(ctx, b.Config, b.Master, store).Checks {
		if !f.OK {
			b.report.Damage = append(b.report.Damage, f)
		}
	}
	if len(b.report.Damage) == 0 || b.AcceptDamage {
		return ctx.Err()
	}
	first := b.report.Damage[0]
	return terminal.WithHint(fmt.Errorf("%s: %s: %s", b.Name, first.Check, first.Detail),
		"\"keymill backup --check\" lists all faults; use another backup, or restore this one as it is with --accept-damage")
}

// checkDatabase refuses to replace the store of another database, if that can be read.
func (b *builder) checkDatabase(ctx context.Context, id string) error {
	path := b.Config.Path("keymill.db")
	if b.target != nil {
		return nil // it is empty
	}
	if _, err := os.Lstat(path); err != nil {
		return nil
	}
	store, err := bolt.OpenReadOnly(path)
	if err != nil {
		return nil // it is damaged, which is why it is replaced
	}
	defer store.Close()
	if there, err := serve.Identify(ctx, store, b.Config); err == nil && there.DatabaseID != id {
		return terminal.WithHint(fmt.Errorf("the backup is of database %s, and %s holds database %s", id, b.Config.Data, there.DatabaseID),
			"if you want the other one there, move keymill.db and keymill.mark away first")
	}
	return nil
}

// replacedLife returns the life of the store that is replaced, or 0 if it cannot be read. The life that is chosen then is
// the time, which is later unless the clock went back.
func (b *builder) replacedLife(ctx context.Context) uint64 {
	store, err := bolt.OpenReadOnly(b.Config.Path("keymill.db"))
	if err != nil {
		return 0
	}
	defer store.Close()
	life, err := keystore.Life(ctx, store, b.Master)
	if err != nil {
		return 0
	}
	return life
}

// renew makes new keys and ends the sessions.
func (b *builder) renew(ctx context.Context, store *bolt.Store) error {
	c := b.Config
	rings, err := keystore.Open(ctx, store, keystore.Config{
		Algorithms: c.Algorithms, RotateEvery: c.RotateEvery, Propagation: c.Propagation, MaxAge: c.MaxAge,
		Master: b.Master, Dev: c.Dev, CheckRSA: jwks.CheckRSA, Changed: func([]keystore.PublicKey) {},
	})
	if err != nil {
		return err
	}
	b.rings, b.report.maxAge = rings, c.MaxAge
	return errors.Join(b.renewOpen(ctx), rings.Close())
}

func (b *builder) renewOpen(ctx context.Context) (err error) {
	c, rings := b.Config, b.rings
	if err := serve.CheckIssuer(ctx, rings.Store(), c); err != nil {
		return err
	}
	b.report.Renewal, err = rings.Renew(ctx, keystore.RenewRequest{
		Replaced: b.replacedLife(ctx), TrustAll: b.TrustKeys, Set: b.Set, RevokedFile: c.RevokedPath(), Listed: b.report.Header.Listed, By: b.By,
	})
	if err != nil {
		return err
	}
	return rings.Store().Update(ctx, func(tx storage.Tx) error {
		stored, err := epoch.Find(tx)
		if err != nil {
			return err
		}
		// All sessions were ended after the copy if the list has a later epoch.
		b.report.Ended = b.report.Renewal.Epoch > stored
		b.report.Sessions = b.KeepSessions && !b.report.Ended
		detail := map[string]string{"copy": b.report.Trailer.Ended.UTC().Format(time.RFC3339), "sessions": "kept"}
		if !b.report.Sessions {
			detail["sessions"] = "ended"
			if err := epoch.EndAllSessions(tx, rings.Now(), rings.WallTime(), b.report.Renewal.Epoch, c.WebhookURL != ""); err != nil {
				return err
			}
		}
		return audit.Append(tx, rings.Now(), audit.Event{Action: "store.restore", By: b.By, Target: b.report.Header.Database, Detail: detail})
	})
}
