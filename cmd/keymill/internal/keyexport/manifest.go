package keyexport

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"keymill/cmd/keymill/internal/terminal"
)

// manifestName is the file in which an export notes what it wrote.
const manifestName = ".keymill-export.json"

// A manifest says which files of a directory an export wrote.
type manifest struct {
	Format Format `json:"format"`
	Alg    string `json:"alg"` // "" for all
	// Unfinished is true from before the first change of a file until the changes are printed.
	Unfinished bool `json:"unfinished"`
	// Files maps a name to the SHA-256 of each content that an export wrote there: of the old and the
	// new one while it is unfinished.
	Files map[string][]string `json:"files"`
}

// parseManifest reads a manifest. A name in it that no export writes must not lead to another file.
func parseManifest(raw []byte) (m manifest, err error) {
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, err
	}
	for name := range m.Files {
		if !isOurName(name) {
			return m, fmt.Errorf("it names the file %s", terminal.Printable(name))
		}
	}
	return m, nil
}

func (m manifest) encode() []byte {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic(err) // strings and a bool
	}
	return append(raw, '\n')
}

// wrote reports whether an export wrote this content to the file.
func (m manifest) wrote(name string, content []byte) bool {
	return slices.Contains(m.Files[name], digest(content))
}

// with returns the manifest that also knows the new content of files.
func (m manifest) with(files map[string][]byte) manifest {
	m.Unfinished, m.Files = true, maps.Clone(m.Files)
	if m.Files == nil {
		m.Files = map[string][]string{}
	}
	for name, content := range files {
		if !m.wrote(name, content) {
			m.Files[name] = append(slices.Clone(m.Files[name]), digest(content))
		}
	}
	return m
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
