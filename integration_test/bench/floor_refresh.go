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

// A refresh token of the floor has the form of Keymill's: "kmr_", the id of the session, and
// characters that differ each time.
const (
	tokenChars   = 64
	sessionChars = 26 // after "kmr_"
)

// recordBytes is the size of the record that a refresh writes, without its key.
const recordBytes = 200

// login begins a session without a password, since logins are not measured.
func (f *floor) login(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	w.Header()["Content-Type"] = jsonType
	session := (strings.ReplaceAll(r.RemoteAddr, ":", "-") + strings.Repeat("-", sessionChars))[:sessionChars]
	fmt.Fprintf(w, `{"refresh":"%s"}`, tokenOf(session, 0))
}

// refresh does the minimum that keeps a session on disk: it reads the record, writes it back
// and waits until it is synced.
func (f *floor) refresh(token string) (next string, err error) {
	if len(token) != tokenChars || !strings.HasPrefix(token, "kmr_") {
		return "", errors.New("malformed refresh token")
	}
	session := token[4 : 4+sessionChars]
	key, record := []byte("session/"+session), make([]byte, recordBytes)
	err = f.records.update(func(b *bbolt.Bucket) error {
		copy(record, b.Get(key))
		binary.BigEndian.PutUint32(record, binary.BigEndian.Uint32(record)+1)
		return b.Put(key, record)
	})
	return tokenOf(session, binary.BigEndian.Uint32(record)), err
}

func tokenOf(session string, generation uint32) string {
	const zeros = "0000000000000000000000000000000000"
	digits := strconv.FormatUint(uint64(generation), 10)
	return "kmr_" + session + zeros[:tokenChars-4-sessionChars-len(digits)] + digits
}

// A committer is bbolt with group commit. All functions that wait run in one transaction, and
// its sync answers all of them; then it starts again at once. If one function fails, all of
// its transaction fail. No reader waits for a sync.
type committer struct {
	db    *bbolt.DB
	calls chan call
}

type call struct {
	fn   func(*bbolt.Bucket) error
	done chan error
}

// mapBytes is the address space that the file is mapped into. It is as much as Keymill's store
// reserves, so that a growing file needs no new mapping.
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

// update returns when the writes of fn are on disk.
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
