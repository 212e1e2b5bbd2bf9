package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"keymill/storage"
)

// The manifest lists the records that it covers, with their tags. It is a tree of two levels, so
// that a change writes two small records and a difference can be named:
//
//	manifest        version, and the tags of the pages
//	manifest/<xx>   the covered records whose keys have a SHA-256 that begins with xx, and their tags
//
// The version grows with every change. The clock record holds it, so that an older manifest that
// was put back together with all its records is noticed too.
const rootKey = storage.ManifestKey

// A root is the record manifest.
type root struct {
	Version  uint64            `json:"version"`
	Records  int               `json:"records"`
	Pages    map[string][]byte `json:"pages"`              // name of a page → its tag
	Retagged string            `json:"retagged,omitempty"` // the cursor of Retag; it stays at the end until the next change
}

// A page is a record manifest/<xx>.
type page struct {
	Records map[string][]byte `json:"records"` // key → tag
}

// coveredPrefixes and coveredKeys say which records are in the manifest.
var (
	coveredPrefixes = [...]string{"ring/", "retired/", "tombstone/", "refresh/secret/", "audience/", "client/", "verifier/secret/", "verifier/name/", "applied/"}
	coveredKeys     = [...]string{"epoch", "issuer"}
)

func covered(key string) bool {
	for _, k := range coveredKeys {
		if key == k {
			return true
		}
	}
	for _, p := range coveredPrefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

func pageName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:1])
}

func pageKey(name string) string { return rootKey + "/" + name }

// readRoot returns the record manifest. A store without it is damaged.
func (r *reader) readRoot() (*root, error) {
	m := new(root)
	b, err := r.Get(rootKey)
	if errors.Is(err, storage.ErrNotFound) {
		err = r.damaged(rootKey, "it is missing")
	}
	if err != nil {
		return nil, err
	}
	return m, storage.DecodeJSON(rootKey, b, m)
}

// ManifestVersion returns the version of the manifest. r is a reader of a Store.
func ManifestVersion(r storage.Reader) (uint64, error) {
	own, ok := r.(interface{ readRoot() (*root, error) })
	if !ok {
		return 0, fmt.Errorf("%T does not read a sealed store", r)
	}
	m, err := own.readRoot()
	if err != nil {
		return 0, err
	}
	return m.Version, nil
}

// checkEntry compares a record with its entry, once in a transaction and before it is written: nothing
// is written over a record that is missing, was added or is older.
func (t *transaction) checkEntry(key string) error {
	if t.known[key] {
		return nil
	}
	p, err := t.page(pageName(key))
	if err != nil {
		return err
	}
	stored, err := t.base.Get(key)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		err = differs(key, p.Records[key], nil)
	case err == nil:
		var sum tag
		if _, sum, err = t.verify(key, stored); err == nil {
			err = differs(key, p.Records[key], sum[:])
		}
	}
	if err != nil {
		return err
	}
	if t.known == nil {
		t.known = map[string]bool{}
	}
	t.known[key] = true
	return nil
}

// differs says how the tag of a record differs from its entry. nil stands for no record, and for no
// entry.
func differs(key string, entry, sum []byte) error {
	switch {
	case bytes.Equal(entry, sum):
		return nil
	case sum == nil:
		return storage.Damaged(key, "it is missing, although no administrator removed it")
	case entry == nil:
		return storage.Damaged(key, "it was put back after an administrator removed it")
	}
	return storage.Damaged(key, "it is an older one that was put back")
}

// note changes the entry of one record, which checkEntry has checked. A nil sum removes it.
func (t *transaction) note(key string, sum []byte) {
	p := t.pages[pageName(key)]
	before := p.Records[key]
	switch {
	case bytes.Equal(before, sum):
		return
	case sum == nil:
		delete(p.Records, key)
		t.root.Records--
	case before == nil:
		t.root.Records++
		fallthrough
	default:
		p.Records[key] = sum
	}
	t.written = true
}

// page returns a page of the manifest as this transaction has changed it.
func (t *transaction) page(name string) (*page, error) {
	if err := t.loadRoot(); err != nil {
		return nil, err
	}
	if p := t.pages[name]; p != nil {
		return p, nil
	}
	p := &page{Records: map[string][]byte{}}
	if t.root.Pages[name] != nil {
		var err error
		if p, err = t.root.page(&t.reader, name); err != nil {
			return nil, err
		}
	}
	if t.pages == nil {
		t.pages = map[string]*page{}
	}
	t.pages[name] = p
	return p, nil
}

func (t *transaction) loadRoot() error {
	if t.root != nil {
		return nil
	}
	m, err := t.readRoot()
	if err == nil {
		t.root = m
	}
	return err
}

// page reads a page that the root names, and compares its tag with the root.
func (m *root) page(r *reader, name string) (*page, error) {
	key := pageKey(name)
	stored, err := r.base.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, r.damaged(key, "it is missing")
	}
	if err != nil {
		return nil, err
	}
	value, sum, err := r.verify(key, stored)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(sum[:], m.Pages[name]) {
		return nil, r.damaged(key, "it is older than the manifest")
	}
	p := new(page)
	return p, storage.DecodeJSON(key, value, p)
}

// putManifest writes the pages that changed, and the root.
func (t *transaction) putManifest() error {
	for name, p := range t.pages {
		if len(p.Records) == 0 {
			delete(t.root.Pages, name)
			if err := t.tx.Delete(pageKey(name)); err != nil {
				return err
			}
			continue
		}
		sum, err := t.putPart(pageKey(name), p)
		if err != nil {
			return err
		}
		t.root.Pages[name] = sum[:]
	}
	t.root.Version++
	if t.state.changing {
		t.root.Retagged = "" // of the change before
	}
	_, err := t.putPart(rootKey, t.root)
	return err
}

func (t *transaction) putPart(key string, v any) (tag, error) {
	b, err := marshal(key, v)
	if err != nil {
		return tag{}, err
	}
	if len(b) > storage.MaxValueBytes {
		return tag{}, fmt.Errorf("%w: %s has %d bytes; remove clients, audiences or verifiers that are not used", storage.ErrLimit, key, len(b))
	}
	return t.put(key, b)
}
