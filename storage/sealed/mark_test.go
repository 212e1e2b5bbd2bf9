package sealed

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustOpenMark(t *testing.T, path string) *Mark {
	t.Helper()
	m, err := OpenMark(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestAMarkRemembersTheLatestTime, whichever slot was written last, and survives a torn write of one.
func TestAMarkRemembersTheLatestTime(t *testing.T) {
	_, s := create(t)
	path := filepath.Join(t.TempDir(), "mark")
	m := mustOpenMark(t, path)
	if _, err := s.ReadMark(m); !errors.Is(err, ErrNoMark) {
		t.Errorf("new mark: %v", err)
	}
	for n := time.Duration(1); n <= 5; n++ {
		if err := s.WriteMark(m, n*time.Second); err != nil {
			t.Fatal(err)
		}
		m.Close()
		m = mustOpenMark(t, path)
		if at, err := s.ReadMark(m); at != n*time.Second || err != nil {
			t.Errorf("after %d: %v, %v", n, at, err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil || len(whole) != 2*markSlotBytes {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	for slot, want := range []time.Duration{4 * time.Second, 5 * time.Second} {
		for _, at := range []int{0, len(markMagic), markPayload, markPayload + sha256.Size - 1} {
			torn := append([]byte{}, whole...)
			torn[slot*markSlotBytes+at] ^= 1
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := s.ReadMark(m); got != want || err != nil {
				t.Errorf("slot %d torn at byte %d: %v, %v", slot, at, got, err)
			}
		}
	}
}

// TestAMarkFitsOneStore: the mark of another database or data key does not fit, and one of the
// previous data key is one while there is a previous one.
func TestAMarkFitsOneStore(t *testing.T) {
	base, s := create(t)
	m := mustOpenMark(t, filepath.Join(t.TempDir(), "mark"))
	if err := s.WriteMark(m, time.Hour); err != nil {
		t.Fatal(err)
	}
	for what, keys := range map[string]Keys{
		"another database": {Database: "other", Current: testKeys.Current},
		"another data key": {Database: "db", Current: Generation{1, [32]byte{9}}},
	} {
		if _, err := open(t, base, keys).ReadMark(m); !errors.Is(err, ErrOtherMark) {
			t.Errorf("%s: %v", what, err)
		}
	}
	next, err := newStore(base, nextKeys)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := next.ReadMark(m); at != time.Hour || err != nil {
		t.Errorf("the previous data key: %v, %v", at, err)
	}
}

// TestAMarkThatWasBegunIsCompleted: a full disk or a crash can leave any part of the zeros that a new
// mark has. Anything else is another file.
func TestAMarkThatWasBegunIsCompleted(t *testing.T) {
	_, s := create(t)
	for _, begun := range []int{0, 1, markSlotBytes, markBytes - 1} {
		path := filepath.Join(t.TempDir(), "mark")
		if err := os.WriteFile(path, make([]byte, begun), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMarkReadOnly(path)
		if err != nil {
			t.Fatalf("%d bytes, read-only: %v", begun, err)
		}
		if _, err := s.ReadMark(m); !errors.Is(err, ErrNoMark) {
			t.Errorf("%d bytes, read-only: %v", begun, err)
		}
		m.Close()
		// By a start, and by a heartbeat after one that failed.
		later := filepath.Join(t.TempDir(), "mark")
		opened := mustOpenMark(t, later)
		if err := os.WriteFile(later, make([]byte, begun), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.WriteMark(mustOpenMark(t, path), time.Hour), s.WriteMark(opened, time.Hour)); err != nil {
			t.Errorf("%d bytes: %v", begun, err)
		}
		if at, err := s.ReadMark(mustOpenMark(t, path)); at != time.Hour || err != nil {
			t.Errorf("%d bytes: %v, %v", begun, at, err)
		}
	}
	for what, content := range map[string][]byte{
		"text behind zeros": append(make([]byte, 100), 'x'), "a slot alone": append([]byte(markMagic), make([]byte, markSlotBytes-len(markMagic))...),
		"too long": make([]byte, markBytes+1), "of the right length": bytes.Repeat([]byte("precious"), markBytes/8),
	} {
		path := filepath.Join(t.TempDir(), "mark")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, open := range []func(string) (*Mark, error){OpenMark, OpenMarkReadOnly} {
			if m, err := open(path); err == nil {
				m.Close()
				t.Errorf("%s was opened", what)
			}
		}
		if b, _ := os.ReadFile(path); string(b) != string(content) {
			t.Errorf("%s was changed", what)
		}
	}
}

// TestAMarkIsNeverAnotherFile: a link, a directory, a FIFO or a file of another size is refused and
// stays as it is.
func TestAMarkIsNeverAnotherFile(t *testing.T) {
	dir := t.TempDir()
	file, link, dangling := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	if err := errors.Join(os.WriteFile(file, []byte("precious"), 0o600), os.Symlink(file, link), os.Symlink(filepath.Join(dir, "new"), dangling),
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600), os.Link(filepath.Join(dir, "empty"), filepath.Join(dir, "second"))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file: "move it away", link: "too many levels", dangling: "too many levels", dir: "directory",
		filepath.Join(dir, "absent", "mark"): "directory " + filepath.Join(dir, "absent") + ": no such file", filepath.Join(dir, "second"): "another name",
	} {
		if m, err := OpenMark(path); err == nil {
			m.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	_, s := create(t)
	m := mustOpenMark(t, filepath.Join(dir, "later"))
	if err := os.Symlink(filepath.Join(dir, "new"), filepath.Join(dir, "later")); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteMark(m, time.Hour); err == nil {
		t.Error("a link that came later was followed")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file holds %q", b)
	}
	if _, err := os.Lstat(filepath.Join(dir, "new")); err == nil {
		t.Error("the target of a dangling link was made")
	}
}

// TestAMarkKnowsWhichStoreIsLater: by life and data key. A restore and a change of the data key need the master key, so
// a store that is later in this sense is none that was put back.
//
// I25.
func TestAMarkKnowsWhichStoreIsLater(t *testing.T) {
	_, s := onDatabase(t)
	s.create()
	node := func(generation uint32, life uint64) *Store {
		keys := keysOf(generation, life)
		keys.Previous = nil
		s.setKeys(keys)
		return s.join()
	}
	for _, tt := range []struct {
		what        string
		mark, store *Store
		want        error
	}{
		{"the same", node(2, 5), node(2, 5), nil},
		{"restored", node(2, 5), node(2, 6), ErrEarlierMark},
		{"another data key", node(2, 5), node(3, 5), ErrEarlierMark},
		{"a copy from before a change of the data key", node(3, 5), node(2, 5), ErrOtherMark},
		{"a copy from before a restore", node(2, 6), node(2, 5), ErrOtherMark},
		{"a copy from before a restore, and a later data key", node(2, 6), node(3, 5), ErrOtherMark},
	} {
		path := filepath.Join(t.TempDir(), "mark")
		m := mustOpenMark(t, path)
		for n := range 3 {
			if err := tt.mark.WriteMark(m, time.Duration(n+1)*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		m.Close()
		if at, err := tt.store.ReadMark(mustOpenMark(t, path)); !errors.Is(err, tt.want) || err == nil && at != 3*time.Hour {
			t.Errorf("%s: %v, %v", tt.what, at, err)
		}
	}
}

// FuzzMark: whatever a mark holds, only what was written under the key of the store is its time.
func FuzzMark(f *testing.F) {
	st := must(newStore(nil, keysOf(2, 5))).state.Load()
	for _, magic := range []string{markMagic, markMagic2} {
		b := binary.BigEndian.AppendUint64([]byte(magic), 7)
		b = binary.BigEndian.AppendUint64(b, 5)
		b = binary.BigEndian.AppendUint32(b, 2)
		f.Add(append(b, st.current.markTag(b)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		slot := st.readSlot(append(b, make([]byte, markSlotUsed)...)[:markSlotUsed])
		if slot.fits && (slot.served != 7 || slot.life != 5 || slot.generation != 2) {
			t.Errorf("%x fits: %+v", b, slot)
		}
	})
}
