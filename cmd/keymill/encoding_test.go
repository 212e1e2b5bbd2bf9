package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/spf13/cobra"
)

// saved returns text as editors and shells save it, by the name of the encoding.
func saved(text string) map[string]string {
	var little, big strings.Builder
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		little.Write([]byte{byte(unit), byte(unit >> 8)})
		big.Write([]byte{byte(unit >> 8), byte(unit)})
	}
	return map[string]string{"UTF-8": text, "UTF-8 with a mark": "\ufeff" + text, "UTF-16 LE": little.String(), "UTF-16 BE": big.String()}
}

// TestADumpIsReadInTheEncodingOfItsShell: Windows PowerShell writes UTF-16 behind ">".
func TestADumpIsReadInTheEncodingOfItsShell(t *testing.T) {
	object := strings.Replace(strings.Replace(anObject, `"alice"`, `"zoë 😀"`, 1), "alice@", "zoë@", 1)
	row := aHeader + "7,x,,f,zoë 😀,zoë@example.com,t\r\n8,x,,f,bob,\"b,\"\"o\",t\r\n"
	for format, text := range map[string]string{"django-json": "[" + object + ",\r\n" + anObject + "]\r\n", "django-csv": row} {
		for name, text := range saved(text) {
			got := readDump(format, text, "email")
			if got.broken != nil || got.refused != nil || len(got.users) != 2 {
				t.Errorf("%s in %s: %+v", format, name, got)
				continue
			}
			var email string
			if u := got.users[0]; json.Unmarshal(u.claims["email"], &email) != nil || email != "zoë@example.com" || u.name != "zoë 😀" {
				t.Errorf("%s in %s: %+v", format, name, got.users[0])
			}
		}
		little := saved(text)["UTF-16 LE"]
		for broken, want := range map[string]string{
			little[2:]:                                      "the text is in UTF-16 without a byte order mark; save it as UTF-8",
			saved(text)["UTF-16 BE"][2:]:                    "the text is in UTF-16 without a byte order mark",
			"\xff\xfe\x00\x00[\x00\x00\x00":                 "the text is in UTF-32; save it as UTF-8",
			strings.Replace(little, "z\x00", "\x00\xdc", 1): "begins half a character",
			little + "\r":                                   "is the last, and half a character",
		} {
			if got := readDump(format, broken, "email"); got.broken == nil || !strings.Contains(got.broken.Error(), want) {
				t.Errorf("%s %.40q: %+v, want %s", format, broken, got.broken, want)
			}
		}
	}
}

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
		for name, text := range saved(tt.text) {
			if got, err := tt.read(on(text)); got != tt.want || err != nil {
				t.Errorf("%s in %s: %q, %v", what, name, got, err)
			}
		}
		if _, err := tt.read(on(saved(tt.text)["UTF-16 LE"][2:])); err == nil || !strings.Contains(err.Error(), "UTF-16 without a byte order mark") {
			t.Errorf("%s without a mark: %v", what, err)
		}
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte(saved("a key")["UTF-16 LE"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readKey(on(""), path); got != "a key" || err != nil {
		t.Errorf("a file: %q, %v", got, err)
	}
	if _, err := readKey(on(strings.Repeat("x", maxKeyBytes+1)), "-"); err == nil || err == io.EOF {
		t.Errorf("a long key: %v", err)
	}
}
