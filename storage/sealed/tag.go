package sealed

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
	"sync"
)

const (
	tagBytes     = 16
	trailerBytes = 1 + tagBytes
	tagPurpose   = "keymill record tag v1"
	markPurpose  = "keymill mark v1"
	dataKeyBytes = 32
)

// A tag is the truncated MAC of one record.
type tag [tagBytes]byte

// A tagger computes the tags of one generation. It is safe for concurrent use.
type tagger struct {
	generation uint32
	markKey    []byte
	macs       sync.Pool // of *mac
	proven     proven
}

// A mac is an HMAC with its buffers. Making one costs several hashes; using one again costs none.
type mac struct {
	hash   hash.Hash
	sum    [sha256.Size]byte
	prefix []byte // of the bytes that the tag covers: all before the value
	stored []byte
}

func newTagger(database string, g Generation) (*tagger, error) {
	tagKey, err := deriveKey(g.DataKey, tagPurpose, database)
	if err != nil {
		return nil, err
	}
	markKey, err := deriveKey(g.DataKey, markPurpose, database)
	if err != nil {
		return nil, err
	}
	t := &tagger{generation: g.Number, markKey: markKey}
	t.macs.New = func() any { return &mac{hash: hmac.New(sha256.New, tagKey)} }
	return t, nil
}

// deriveKey returns a key for one purpose in one database.
func deriveKey(dataKey [dataKeyBytes]byte, purpose, database string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, dataKey[:], []byte(database), purpose, dataKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive key (%s): %w", purpose, err)
	}
	return key, nil
}

// seal calls put with the stored form of a value, which is valid during the call.
func (t *tagger) seal(key string, value []byte, put func(stored []byte) error) (tag, error) {
	m := t.macs.Get().(*mac)
	defer t.macs.Put(m)
	sum := m.tag(t.generation, key, value)
	m.stored = append(append(m.stored[:0], value...), byte(t.generation))
	m.stored = append(m.stored, sum[:]...)
	return sum, put(m.stored)
}

// check returns the value of a stored record, if its tag fits.
func (t *tagger) check(key string, stored []byte) (value []byte, sum tag, ok bool) {
	n := len(stored) - trailerBytes
	if n < 0 || stored[n] != byte(t.generation) {
		return nil, tag{}, false
	}
	if sum, ok = t.proven.find(key, stored); ok {
		return stored[:n:n], sum, true
	}
	m := t.macs.Get().(*mac)
	defer t.macs.Put(m)
	sum = m.tag(t.generation, key, stored[:n])
	if subtle.ConstantTimeCompare(sum[:], stored[n+1:]) != 1 {
		return nil, tag{}, false
	}
	t.proven.add(key, stored, sum)
	return stored[:n:n], sum, true
}

func (m *mac) tag(generation uint32, key string, value []byte) (out tag) {
	p := binary.BigEndian.AppendUint32(m.prefix[:0], generation)
	p = binary.BigEndian.AppendUint32(p, uint32(len(key)))
	p = append(p, key...)
	m.prefix = binary.BigEndian.AppendUint32(p, uint32(len(value)))
	m.hash.Reset()
	m.hash.Write(m.prefix)
	m.hash.Write(value)
	copy(out[:], m.hash.Sum(m.sum[:0]))
	return out
}

// check returns the value of a stored record, if its tag fits and its generation is accepted there.
func (s *state) check(key string, stored []byte) (value []byte, sum tag, ok bool) {
	if value, sum, ok = s.current.check(key, stored); ok || !s.acceptsPrevious(key) {
		return value, sum, ok
	}
	return s.previous.check(key, stored)
}

// acceptsPrevious reports whether the record may have a tag of the previous generation.
func (s *state) acceptsPrevious(key string) bool {
	return s.previous != nil && key >= s.cursor && (s.changing || !rewritten(key))
}

// rewritten reports whether the transaction that changes the data key writes the record, so that
// its tag is never of the previous generation.
func rewritten(key string) bool {
	return key == rootKey || strings.HasPrefix(key, "ring/") || strings.HasPrefix(key, "private/") ||
		strings.HasPrefix(key, "refresh/secret/") || strings.HasPrefix(key, "verifier/secret/")
}
