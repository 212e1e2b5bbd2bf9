package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/storage"
)

// fromWrites returns what Build reads.
func fromWrites(n int, write func(n int) (storage.Write, error)) func() (storage.Write, error) {
	i := 0
	return func() (storage.Write, error) {
		if i == n {
			return storage.Write{}, io.EOF
		}
		i++
		return write(i)
	}
}

// TestABuiltStoreHoldsTheWritesInTheirOrder, the last one of each key, over several transactions.
func TestABuiltStoreHoldsTheWritesInTheirOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	err := Build(path, fromWrites(25_000, func(n int) (storage.Write, error) {
		key := fmt.Sprintf("k/%05d", n%12_000)
		return storage.Write{Key: key, Value: fmt.Append(nil, n), Deleted: n%7 == 0}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found := 0
	err = s.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan(" ", "\x7f") {
			if err != nil {
				return err
			}
			var k int
			fmt.Sscanf(e.Key, "k/%d", &k)
			last := k + 12_000*((25_000-k)/12_000)
			if string(e.Value) != fmt.Sprint(last) || last%7 == 0 {
				t.Fatalf("%s is %s", e.Key, e.Value)
			}
			found++
		}
		return nil
	})
	if err != nil || found < 10_000 || found > 11_000 {
		t.Errorf("%d records, %v", found, err)
	}
}

// TestABuildThatFailsLeavesNoFile, and never touches one that is there.
func TestABuildThatFailsLeavesNoFile(t *testing.T) {
	broken := errors.New("the copy is damaged")
	for name, tt := range map[string]struct {
		prepare func(dir string)
		write   func(n int) (storage.Write, error)
		want    error
		files   int
	}{
		"a copy that ends early": {func(string) {}, func(n int) (storage.Write, error) {
			if n > 15_000 {
				return storage.Write{}, broken
			}
			return storage.Write{Key: fmt.Sprint(n)}, nil
		}, broken, 0},
		"a file": {func(dir string) { os.WriteFile(filepath.Join(dir, "keymill.db"), []byte("mine"), 0o600) }, func(int) (storage.Write, error) {
			return storage.Write{Key: "a"}, nil
		}, fs.ErrExist, 1},
		"a link that leads nowhere": {func(dir string) { os.Symlink("nowhere", filepath.Join(dir, "keymill.db")) }, func(int) (storage.Write, error) {
			return storage.Write{Key: "a"}, nil
		}, fs.ErrExist, 1},
		"a missing directory": {func(dir string) { os.Remove(dir) }, func(int) (storage.Write, error) {
			return storage.Write{Key: "a"}, nil
		}, fs.ErrNotExist, 0},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		os.Mkdir(dir, 0o700)
		tt.prepare(dir)
		err := Build(filepath.Join(dir, "keymill.db"), fromWrites(30_000, tt.write))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		left, _ := os.ReadDir(dir)
		if len(left) != tt.files || len(left) == 1 && strings.Contains(left[0].Name(), ".new-") {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// TestABuildReplacesNoFile that appears while it runs.
func TestABuildReplacesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keymill.db")
	err := Build(path, fromWrites(2, func(int) (storage.Write, error) {
		return storage.Write{Key: "a"}, os.WriteFile(path, []byte("mine"), 0o600)
	}))
	if raw, readErr := os.ReadFile(path); !errors.Is(err, fs.ErrExist) || string(raw) != "mine" || readErr != nil {
		t.Errorf("%v; the file holds %.20q (%v)", err, raw, readErr)
	}
}
