package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"keymill/storage"
	"keymill/storage/durable"
)

// buildWrites and buildBytes bound one transaction of Build. None is synced before the last.
const (
	buildWrites = 10_000
	buildBytes  = 16 << 20
)

// Build makes a store at path, where there is no file, of the writes that next returns, in their order,
// until io.EOF. Their keys and values keep to the limits of package storage. The file has its name only
// once it is whole and durable. Any other error of next is returned, and no file is left.
func Build(path string, next func() (storage.Write, error)) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("create store %s: %w", path, fs.ErrExist)
	}
	var failed error
	err := build(path, func() (w storage.Write, err error) {
		if w, err = next(); err != nil && err != io.EOF {
			failed = err
		}
		return w, err
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("create store %s: %w", path, withoutPath(err))
	}
	return nil
}

// build makes a store beside path and then links it to path, so a file with that name is always
// complete. A crash can leave a stray FILE.new-…, which is harmless, but never an empty file: an empty
// file is damage, and openExisting refuses it.
func build(path string, next func() (storage.Write, error)) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	name := f.Name()
	f.Close()
	defer os.Remove(name)

	o := fileOptions()
	o.NoSync = true // until it is whole
	db, err := bbolt.Open(name, 0o600, o)
	if err != nil {
		return err
	}
	err = contain(func() error {
		for done := false; !done; {
			if err := db.Update(func(tx *bbolt.Tx) (err error) { done, err = fill(tx, next); return err }); err != nil {
				return err
			}
		}
		return db.Sync()
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// fs.ErrExist means that another process has created the store in the meantime.
	if err := durable.Link(name, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// fill writes what next returns, within the bounds of a transaction. It reports whether that was all.
func fill(tx *bbolt.Tx, next func() (storage.Write, error)) (done bool, err error) {
	bucket, err := tx.CreateBucketIfNotExists([]byte(bucketName))
	if err != nil {
		return false, err
	}
	bucket.FillPercent = pageFill
	for n, size := 0, 0; n < buildWrites && size < buildBytes; n++ {
		w, err := next()
		size += len(w.Key) + len(w.Value)
		switch {
		case err == io.EOF:
			return true, nil
		case err != nil:
			return false, err
		case w.Deleted:
			err = bucket.Delete([]byte(w.Key))
		default:
			err = bucket.Put([]byte(w.Key), w.Value)
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}
