package keyimport

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestAKeyIsReadInTheEncodingOfItsEditor, from standard input and from a file. A mark would become a
// part of it.
func TestAKeyIsReadInTheEncodingOfItsEditor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	for _, text := range []string{"-----BEGIN PRIVATE KEY-----\r\nMC4C\r\n-----END PRIVATE KEY-----\r\n", `{"kty":"OKP"}`} {
		encodings := terminaltest.Encodings(text)
		for name, encoded := range encodings {
			if got, err := Read(strings.NewReader(encoded), "-"); got != text || err != nil {
				t.Errorf("%s on standard input: %q, %v", name, got, err)
			}
			if err := os.WriteFile(path, []byte(encoded), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := Read(nil, path); got != text || err != nil {
				t.Errorf("%s in a file: %q, %v", name, got, err)
			}
		}
		if _, err := Read(strings.NewReader(encodings["UTF-16 LE"][2:]), "-"); err == nil || !strings.Contains(err.Error(), "UTF-16 without a byte order mark") {
			t.Errorf("without a mark: %v", err)
		}
	}
}

// TestWhatCannotBeAKeyIsNotSent: an endless file, and the output of a command that failed.
func TestWhatCannotBeAKeyIsNotSent(t *testing.T) {
	for text, want := range map[string]string{strings.Repeat("x", maxBytes+1): "too long", "": "standard input is empty"} {
		if _, err := Read(strings.NewReader(text), "-"); err == nil || err == io.EOF || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}
