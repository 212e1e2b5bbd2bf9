package cli

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"
)

func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	s := stateOf(ts)
	if s.snapshots == nil {
		s.snapshots = map[string][]string{}
	}
	s.snapshots[args[0]] = tree(ts, args[0])
}

func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	before, ok := stateOf(ts).snapshots[args[0]]
	if !ok {
		ts.Fatalf("no snapshot of %s", args[0])
	}
	if now := tree(ts, args[0]); !slices.Equal(before, now) {
		ts.Fatalf("%s changed\nbefore: %v\nnow:    %v", args[0], before, now)
	}
}

// tree returns names, modes and hashes below path, or nothing if path does not exist.
func tree(ts *testscript.TestScript, path string) (files []string) {
	root := ts.MkAbs(path)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var sum [sha256.Size]byte
		if d.Type().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(b)
		}
		files = append(files, fmt.Sprintf("%s %v %x", name, info.Mode(), sum[:8]))
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		ts.Fatalf("%v", err)
	}
	return files
}
