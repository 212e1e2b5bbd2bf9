package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/julienschmidt/httprouter"
	"go.etcd.io/bbolt"
)

// A refresh token of the floor looks like one of Keymill: "kmr_", who the family is,
// and characters that differ each time.
const (
	tokenChars  = 64
	familyChars = 26 // after "kmr_"
)

// recordBytes is what a refresh writes, key not counted.
const recordBytes = 200

// login begins a family and asks for no password: it is not what is measured.
func (f *floor) login(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	w.Header()["Content-Type"] = jsonType
	family := (strings.ReplaceAll(r.RemoteAddr, ":", "-") + strings.Repeat("-", familyChars))[:familyChars]
	fmt.Fprintf(w, `{"refresh":"%s"}`, tokenOf(family, 0))
}

// refresh does the least that keeps a family on disk: it reads the record, writes it
// anew and waits until that is synced.
func (f *floor) refresh(token string) (next string, err error) {
	if len(token) != tokenChars || !strings.HasPrefix(token, "kmr_") {
		return "", errors.New("no refresh token")
	}
	family := token[4 : 4+familyChars]
	key, record := []byte("family/"+family), make([]byte, recordBytes)
	err = f.records.update(func(b *bbolt.Bucket) error {
		copy(record, b.Get(key))
		binary.BigEndian.PutUint32(record, binary.BigEndian.Uint32(record)+1)
		return b.Put(key, record)
	})
	return tokenOf(family, binary.BigEndian.Uint32(record)), err
}

func tokenOf(family string, generation uint32) string {
	const zeros = "0000000000000000000000000000000000"
	digits := strconv.FormatUint(uint64(generation), 10)
	return "kmr_" + family + zeros[:tokenChars-4-familyChars-len(digits)] + digits
}

// A committer is bbolt with nothing around it but company: whatever functions wait
// run in one transaction, whose one sync answers all of them, and it starts again at
// once. No function can fail or be undone alone, no reader waits for a sync.
type committer struct {
	db    *bbolt.DB
	calls chan call
}

type call struct {
	fn   func(*bbolt.Bucket) error
	done chan error
}

// mapBytes of address space, as the store reserves, so that a growing file is not
// mapped anew.
const mapBytes = 1 << 30

func openCommitter(dir string) (*committer, error) {
	db, err := bbolt.Open(filepath.Join(dir, "floor.db"), 0o600, &bbolt.Options{
		FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapBytes, NoStatistics: true,
	})
	if err != nil {
		return nil, err
	}
	c := &committer{db: db, calls: make(chan call, 1024)}
	if err := db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte("floor"))
		return err
	}); err != nil {
		return nil, err
	}
	go c.run()
	return c, nil
}

// update returns once what fn wrote is on disk.
func (c *committer) update(fn func(*bbolt.Bucket) error) error {
	done := make(chan error, 1)
	c.calls <- call{fn, done}
	return <-done
}

func (c *committer) run() {
	var group []call
	for first := range c.calls {
		group = append(group[:0], first)
		err := c.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("floor"))
			if err := first.fn(b); err != nil {
				return err
			}
			for {
				select {
				case next := <-c.calls:
					group = append(group, next)
					if err := next.fn(b); err != nil {
						return err
					}
				default:
					return nil
				}
			}
		})
		for _, one := range group {
			one.done <- err
		}
	}
}
