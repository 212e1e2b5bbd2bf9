package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"

	"github.com/spf13/cobra"
)

// TestInputIsReadInTheEncodingOfItsEditor: keys, passwords and tokens. A mark would become a part of
// them, which no one sees.
func TestInputIsReadInTheEncodingOfItsEditor(t *testing.T) {
	on := func(text string) *cobra.Command {
		cmd := &cobra.Command{}
		cmd.SetIn(strings.NewReader(text))
		return cmd
	}
	for what, tt := range map[string]struct {
		text, want string
		read       func(*cobra.Command) (string, error)
	}{
		"PEM": {"-----BEGIN PRIVATE KEY-----\r\nMC4C\r\n-----END PRIVATE KEY-----\r\n", "-----BEGIN PRIVATE KEY-----\r\nMC4C\r\n-----END PRIVATE KEY-----\r\n",
			func(cmd *cobra.Command) (string, error) { return readKey(cmd, "-") }},
		"JWK":           {`{"kty":"OKP"}`, `{"kty":"OKP"}`, func(cmd *cobra.Command) (string, error) { return readKey(cmd, "-") }},
		"password":      {"ünter uns gesagt\r\n", "ünter uns gesagt", func(cmd *cobra.Command) (string, error) { return readPassword(cmd, "") }},
		"refresh token": {"kmr_x.y\r\n", "kmr_x.y", func(cmd *cobra.Command) (string, error) { return readRefreshToken(cmd, []string{"-"}, false) }},
		"client secret": {"hush\r\n", "hush", func(cmd *cobra.Command) (string, error) {
			req := tokenRequest{client: "billing", issuer: "https://id.example.com"}
			err := req.complete(cmd, true)
			return req.secret, err
		}},
	} {
		for name, text := range terminaltest.Encodings(tt.text) {
			if got, err := tt.read(on(text)); got != tt.want || err != nil {
				t.Errorf("%s in %s: %q, %v", what, name, got, err)
			}
		}
		if _, err := tt.read(on(terminaltest.Encodings(tt.text)["UTF-16 LE"][2:])); err == nil || !strings.Contains(err.Error(), "UTF-16 without a byte order mark") {
			t.Errorf("%s without a mark: %v", what, err)
		}
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte(terminaltest.Encodings("a key")["UTF-16 LE"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readKey(on(""), path); got != "a key" || err != nil {
		t.Errorf("a file: %q, %v", got, err)
	}
	if _, err := readKey(on(strings.Repeat("x", maxKeyBytes+1)), "-"); err == nil || err == io.EOF {
		t.Errorf("a long key: %v", err)
	}
}
