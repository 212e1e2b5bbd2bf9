package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
)

// ExamineCopy checks a backup: it makes a store of it in a directory that it removes again, and checks
// that store as Examine does. The findings say what could not be checked without the master key. An
// error means that the checks could not be run.
func (d *Doctor) ExamineCopy(ctx context.Context, in io.Reader) (Findings, error) {
	d.findings = Findings{}
	err := d.examineCopy(ctx, in)
	d.findings.OK = len(d.findings.failed()) == 0
	return d.findings, err
}

func (d *Doctor) examineCopy(ctx context.Context, in io.Reader) error {
	d.readKey() // before the directory changes: that of a trial has its key
	d.isCopy = true
	dir, err := os.MkdirTemp("", "keymill-check-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := *d.Config
	c.Data, c.MarkFile, c.Store = dir, "", "" // in a file, without a mark
	d.Config = &c

	r, err := backup.NewReader(in)
	var broken error // of the copy; other errors are of the disk
	if err == nil {
		err = bolt.Build(c.Path("keymill.db"), func() (w storage.Write, err error) {
			if err := ctx.Err(); err != nil {
				return w, err
			}
			if w, err = r.Next(); err != nil && err != io.EOF && ctx.Err() == nil {
				broken = err
			}
			return w, err
		})
	} else {
		broken = err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil && broken == nil {
		return err
	}
	if broken != nil {
		d.findings.add("backup", "", broken)
		return nil
	}
	d.findings.add("backup", describe(r), leftOut(r.Trailer()))
	store, err := openstore.OpenReadOnly(ctx, d.Config)
	if err != nil {
		return err
	}
	defer store.Close()
	d.store, d.records = store, sealed.Unverified(store)
	if d.noKey() {
		d.checkStore(ctx, store)
		d.findings.skip("master key", "not given; so the tags of the records, the keys, and whether Keymill wrote the header and the end were not checked; set KEYMILL_MASTER_KEY_FILE")
		return nil
	}
	if key, err := keystore.BackupKey(ctx, store, d.master); d.keyFault == nil && err == nil {
		d.findings.add("genuine", "the header, the counts and the end are as the server wrote them", genuine(r, key))
	}
	d.checkStore(ctx, store)
	return nil
}

// CheckCopy checks the records of a store that was made of a backup, as ExamineCopy does. It changes nothing.
func CheckCopy(ctx context.Context, c *config.Config, master keystore.MasterKey, store *bolt.Store) Findings {
	d := &Doctor{Config: c, isCopy: true, store: store, records: sealed.Unverified(store), master: master}
	d.checkContent(ctx)
	d.findings.OK = len(d.findings.failed()) == 0
	return d.findings
}

// noKey reports whether no master key was given.
func (d *Doctor) noKey() bool {
	return errors.Is(d.keyFault, ErrNotInUnit) || errors.Is(d.keyFault, config.ErrNoMasterKey)
}

func describe(r *backup.Reader) string {
	h, t := r.Header(), r.Trailer()
	return fmt.Sprintf("Keymill %s made it of database %s and ended at %s: %s, then %s; its checksum fits",
		terminal.Printable(h.Program), terminal.Printable(h.Database), terminal.FormatTime(&t.Ended),
		terminal.Count(t.Records, "record"), terminal.Count(t.Changes, "change"))
}

func leftOut(t *backup.Trailer) error {
	if t.LeftOut == 0 {
		return nil
	}
	return fmt.Errorf("not in the backup, because another program wrote them to the store: %s; run keymill doctor there", terminal.Count(t.LeftOut, "record"))
}

func genuine(r *backup.Reader, key []byte) error {
	if r.Genuine(key) {
		return nil
	}
	return errors.New("the backup was changed, or put together, by someone without the master key: use another one")
}
