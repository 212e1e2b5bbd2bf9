package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"keymill/storage/durable"
)

// A Mark is a file outside the store that remembers the served time of the store (keystore's clock
// record), so that an older copy of the whole store is noticed. The file has two slots of 4,096
// bytes, which are written in turn: a crash while one is written leaves the other. A slot is
//
//	magic (16) ‖ served time in nanoseconds (8) ‖ HMAC-SHA256 under the mark key (32)
//	magic (16) ‖ served time (8) ‖ life (8) ‖ generation (4) ‖ HMAC-SHA256 under the mark key (32)
//
// and zeros. The second form is that of a store which several servers use or which was restored. A server that was
// down during a restore, or during a change of the data key, sees in it that its mark is of an earlier time.
//
// The mark key is derived from the data key and the database id. Anyone who can write the mark can remove it, or put
// back an older one together with an older store. Anyone who can read it learns how long the store has been served.
type Mark struct {
	path string
	file *os.File // nil until the first WriteMark makes it
	slot int64    // that is written next

	readOnly bool
}

const (
	markMagic     = "keymill mark v1\n"
	markMagic2    = "keymill mark v2\n"
	markSlotBytes = 4096
	markPayload   = len(markMagic) + 8
	markPayload2  = markPayload + 8 + 4
	markSlotUsed  = markPayload2 + sha256.Size
	markBytes     = 2 * markSlotBytes
)

// ErrNoMark means that a mark is missing or was never written.
var ErrNoMark = errors.New("the mark was never written")

// ErrOtherMark means that a mark was written, and not with a data key of the store: it belongs to another
// store or is damaged, or the store is a copy from before a change of the data key.
var ErrOtherMark = errors.New("the mark does not fit the store")

// ErrEarlierMark means that the mark was written before a restore of the store, or before a change of the data key. Only a
// holder of the master key can make a store that is later than a mark in this sense.
var ErrEarlierMark = errors.New("the mark is older than a restore of the store or a change of its data key")

// OpenMark opens the file of a mark, without following links. If it is missing, the first WriteMark
// makes it, so that a start that is refused leaves nothing behind. Its directory must exist.
func OpenMark(path string) (*Mark, error) {
	return openMark(&Mark{path: path})
}

// OpenMarkReadOnly is OpenMark for a program that serves nothing: WriteMark does nothing then.
func OpenMarkReadOnly(path string) (*Mark, error) {
	return openMark(&Mark{path: path, readOnly: true})
}

func openMark(m *Mark) (*Mark, error) {
	err := m.open(0)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(m.path)
		if _, err = os.Stat(dir); err != nil {
			err = fmt.Errorf("directory %s: %w", dir, durable.WithoutPath(err))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open mark %s: %w", m.path, durable.WithoutPath(err))
	}
	return m, nil
}

func (m *Mark) open(flag int) error {
	mode := os.O_RDWR
	if m.readOnly {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(m.path, mode|flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	if !m.readOnly {
		if err := lockMark(f); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	prepared, err := isMark(f)
	if err == nil && !prepared && !m.readOnly {
		err = prepareMark(f)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	m.file = f
	return nil
}

// lockMark keeps other processes from the file: two servers would each take the other's mark for a damaged
// one, and a restore would replace that of a running server. A file system without locks is no error.
func lockMark(f *os.File) error {
	err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return errors.New("another process uses it: stop that server, or give each directory a mark of its own")
	}
	return nil
}

// isMark returns an error if the file cannot be a mark, and false if it does not have its size yet: a
// full disk or a crash can end prepareMark anywhere.
func isMark(f *os.File) (bool, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, errors.New("it is not a regular file")
	case info.Sys().(*syscall.Stat_t).Nlink > 1:
		return false, errors.New("it has another name too; remove it")
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, markBytes))
	if err != nil {
		return false, err
	}
	written := len(bytes.Trim(b, "\x00")) > 0
	switch {
	case info.Size() > markBytes || info.Size() < markBytes && written:
		return false, fmt.Errorf("it has %d bytes, a mark has %d; if it is a damaged mark, move it away", info.Size(), markBytes)
	case written && !hasMagic(b) && !hasMagic(b[markSlotBytes:]):
		return false, errors.New("it is no mark; if it is a damaged one, move it away")
	}
	return info.Size() == markBytes, nil
}

// prepareMark gives the file its size, so that a full disk cannot stop a later write.
func prepareMark(f *os.File) error {
	if _, err := f.WriteAt(make([]byte, markBytes), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// hasMagic reports whether a slot begins as that of a mark.
func hasMagic(slot []byte) bool {
	return bytes.HasPrefix(slot, []byte(markMagic)) || bytes.HasPrefix(slot, []byte(markMagic2))
}

// ReadMark returns the served time of the store that the mark remembers, ErrNoMark, ErrEarlierMark, or ErrOtherMark.
func (s *Store) ReadMark(m *Mark) (time.Duration, error) {
	if m.file == nil {
		return 0, ErrNoMark
	}
	st := s.state.Load()
	var best markSlot
	written, earlier := false, true // of all slots that are written
	for slot := range int64(2) {
		b := make([]byte, markSlotUsed)
		if _, err := m.file.ReadAt(b, slot*markSlotBytes); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read mark: %w", durable.WithoutPath(err))
		}
		if len(bytes.Trim(b, "\x00")) == 0 {
			continue
		}
		found := st.readSlot(b)
		written, earlier = true, earlier && found.before(st)
		if found.fits && (!best.fits || found.after(best)) {
			best, m.slot = found, 1-slot
		}
	}
	switch {
	case best.fits && best.life == st.life:
		return best.served, nil
	case best.fits && best.life < st.life, !best.fits && written && earlier:
		return 0, ErrEarlierMark
	case written:
		return 0, ErrOtherMark
	}
	return 0, ErrNoMark
}

// A markSlot is what one slot of a mark says. Without fits it proves nothing: anyone who can write the mark can have
// written it, and could as well have removed the mark.
type markSlot struct {
	served     time.Duration
	life       uint64
	generation uint32 // 0 in the first form
	fits       bool
}

func (s markSlot) after(other markSlot) bool {
	return s.life > other.life || s.life == other.life && s.served > other.served
}

// before reports whether the slot was written under an earlier data key of this store, and not in a later life.
func (s markSlot) before(st *state) bool {
	return s.generation > 0 && s.generation < st.current.generation && s.life <= st.life
}

// Sum returns the SHA-256 of what a mark holds.
func (m *Mark) Sum() ([sha256.Size]byte, error) {
	b, err := io.ReadAll(io.NewSectionReader(m.file, 0, markBytes))
	return sha256.Sum256(b), err
}

// WriteMark writes the served time of the store, which must be durable in the store already.
func (s *Store) WriteMark(m *Mark, served time.Duration) error {
	if m.readOnly {
		return nil
	}
	if m.file == nil {
		if err := m.open(os.O_CREATE); err != nil {
			return fmt.Errorf("make mark %s: %w", m.path, durable.WithoutPath(err))
		}
	}
	st := s.state.Load()
	b := binary.BigEndian.AppendUint64([]byte(markMagic), uint64(served))
	if s.shared != nil || st.life > 0 {
		copy(b, markMagic2)
		b = binary.BigEndian.AppendUint64(b, st.life)
		b = binary.BigEndian.AppendUint32(b, st.current.generation)
	}
	b = append(b, st.current.markTag(b)...)
	b = append(b, make([]byte, markSlotUsed-len(b))...)
	if _, err := m.file.WriteAt(b, m.slot*markSlotBytes); err != nil {
		return fmt.Errorf("write mark %s: %w", m.path, durable.WithoutPath(err))
	}
	if err := syscall.Fdatasync(int(m.file.Fd())); err != nil {
		return fmt.Errorf("write mark %s: %w", m.path, err)
	}
	m.slot = 1 - m.slot
	return nil
}

// RenewMark writes what the mark remembers again, under the current data key. A caller of Retag does so
// first: Retagged ends the time in which the mark of the previous data key fits.
func (s *Store) RenewMark(m *Mark) error {
	served, err := s.ReadMark(m)
	if errors.Is(err, ErrNoMark) || errors.Is(err, ErrOtherMark) || errors.Is(err, ErrEarlierMark) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.WriteMark(m, served)
}

// Close closes the file.
func (m *Mark) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// readSlot reads one slot.
func (s *state) readSlot(b []byte) (slot markSlot) {
	payload := markPayload
	if bytes.HasPrefix(b, []byte(markMagic2)) {
		payload = markPayload2
		slot.life = binary.BigEndian.Uint64(b[markPayload:])
		slot.generation = binary.BigEndian.Uint32(b[markPayload+8:])
	} else if !bytes.HasPrefix(b, []byte(markMagic)) {
		return slot
	}
	slot.served = time.Duration(binary.BigEndian.Uint64(b[len(markMagic):]))
	sum := b[payload : payload+sha256.Size]
	slot.fits = hmac.Equal(sum, s.current.markTag(b[:payload])) ||
		s.previous != nil && hmac.Equal(sum, s.previous.markTag(b[:payload]))
	return slot
}

func (t *tagger) markTag(payload []byte) []byte {
	m := hmac.New(sha256.New, t.markKey)
	m.Write(payload)
	return m.Sum(nil)
}
