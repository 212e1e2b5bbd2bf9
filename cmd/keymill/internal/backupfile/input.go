package backupfile

import (
	"encoding/json"
	"fmt"
	"io"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// An Input is a backup that an operator named, decrypted.
type Input struct {
	io.Reader
	progress *Progress
	file     *namedfile.File // nil for standard input
}

// OpenInput opens the backup in the file with that name, or standard input for "-". The files of
// identities open it if it is encrypted. progress shows how much was read, until the end of the input.
func OpenInput(name string, stdin io.Reader, identities []string, progress *Progress) (_ *Input, err error) {
	ids, err := Identities(identities)
	if err != nil {
		return nil, err
	}
	in := &Input{progress: progress}
	progress.In = stdin
	if name != "-" {
		if in.file, err = namedfile.Open(name); err != nil {
			return nil, err
		}
		progress.In = in.file
		if info, err := in.file.Stat(); err == nil {
			progress.Total = info.Size()
		}
	}
	if in.Reader, err = Open(progress, ids); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// Read implements io.Reader. It ends the line of progress at the end: what follows prints its own.
func (in *Input) Read(b []byte) (int, error) {
	n, err := in.Reader.Read(b)
	if err != nil {
		in.progress.End()
	}
	return n, err
}

// Close closes the file.
func (in *Input) Close() {
	in.progress.End()
	if in.file != nil {
		in.file.Close()
	}
}

const maxSetBytes = 1 << 20

// KeySet returns the keys of a key set (RFC 7517, section 5) in a file.
func KeySet(name string) ([][]byte, error) {
	raw, err := namedfile.Read(name, maxSetBytes)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(raw, &set) != nil || len(set.Keys) == 0 {
		return nil, terminal.WithHint(fmt.Errorf("%s is not a key set with keys", name), "it is what /.well-known/jwks.json answers")
	}
	keys := make([][]byte, len(set.Keys))
	for n, k := range set.Keys {
		keys[n] = k
	}
	return keys, nil
}
