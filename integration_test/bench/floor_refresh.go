package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
)

// A refresh token of the floor has the form of Keymill's: "kmr_", the id of the session, and a secret, which differs
// each time.
const (
	tokenChars   = 64
	sessionChars = 26 // after "kmr_"
	secretBytes  = 25 // behind it, in base64url
)

// A record has the number of refreshes (4), the hash of the secret (32) and zeros. Without its key it is as long as that of Keymill's
// shortest session.
const recordBytes = 96

var errRefreshToken = errors.New("the refresh token is invalid")

// login begins a session without a password, since logins are not measured.
func (f *floor) login(w http.ResponseWriter, r *http.Request) {
	session := (strings.ReplaceAll(r.RemoteAddr, ":", "-") + strings.Repeat("-", sessionChars))[:sessionChars]
	secret, hash := newSecret()
	record := make([]byte, recordBytes)
	copy(record[4:], hash[:])
	if err := f.records.update(func(b *bbolt.Bucket) error { return b.Put([]byte("session/"+session), record) }); err != nil {
		http.Error(w, "server_error", http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = jsonType
	fmt.Fprintf(w, `{"refresh":"kmr_%s%s"}`, session, secret)
}

// refresh does the minimum that keeps a session on disk: it reads the record, compares the secret, writes the record
// with the hash of the next secret and waits until it is synced.
func (f *floor) refresh(token string) (next string, err error) {
	if len(token) != tokenChars || !strings.HasPrefix(token, "kmr_") {
		return "", errRefreshToken
	}
	session, presented := token[4:4+sessionChars], sha256.Sum256([]byte(token[4+sessionChars:]))
	secret, hash := newSecret()
	key, record, valid := []byte("session/"+session), make([]byte, recordBytes), false
	err = f.records.update(func(b *bbolt.Bucket) error {
		copy(record, b.Get(key))
		if valid = subtle.ConstantTimeCompare(record[4:4+sha256.Size], presented[:]) == 1; !valid {
			return nil // an error would fail the other sessions of the transaction
		}
		binary.BigEndian.PutUint32(record, binary.BigEndian.Uint32(record)+1)
		copy(record[4:], hash[:])
		return b.Put(key, record)
	})
	if err == nil && !valid {
		err = errRefreshToken
	}
	return "kmr_" + session + secret, err
}

func newSecret() (secret string, hash [sha256.Size]byte) {
	var random [secretBytes]byte
	rand.Read(random[:])
	secret = encode(random[:])
	return secret, sha256.Sum256([]byte(secret))
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
