package django

import (
	"encoding/json"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestADumpIsReadInTheEncodingOfItsShell: Windows PowerShell writes UTF-16 behind ">".
func TestADumpIsReadInTheEncodingOfItsShell(t *testing.T) {
	object := strings.Replace(strings.Replace(anObject, `"alice"`, `"zoë 😀"`, 1), "alice@", "zoë@", 1)
	row := aHeader + "7,x,,f,zoë 😀,zoë@example.com,t\r\n8,x,,f,bob,\"b,\"\"o\",t\r\n"
	for format, text := range map[string]string{"django-json": "[" + object + ",\r\n" + anObject + "]\r\n", "django-csv": row} {
		for name, text := range terminaltest.Encodings(text) {
			got := readDump(format, text, "email")
			if got.broken != nil || got.refused != nil || len(got.users) != 2 {
				t.Errorf("%s in %s: %+v", format, name, got)
				continue
			}
			var email string
			if u := got.users[0]; json.Unmarshal(u.Claims["email"], &email) != nil || email != "zoë@example.com" || u.Name != "zoë 😀" {
				t.Errorf("%s in %s: %+v", format, name, got.users[0])
			}
		}
		little := terminaltest.Encodings(text)["UTF-16 LE"]
		for broken, want := range map[string]string{
			little[2:]: "the text is in UTF-16 without a byte order mark; save it as UTF-8",
			terminaltest.Encodings(text)["UTF-16 BE"][2:]:   "the text is in UTF-16 without a byte order mark",
			"\xff\xfe\x00\x00[\x00\x00\x00":                 "the text is in UTF-32; save it as UTF-8",
			strings.Replace(little, "z\x00", "\x00\xdc", 1): "begins half a character",
			little + "\r": "is the last, and half a character",
		} {
			if got := readDump(format, broken, "email"); got.broken == nil || !strings.Contains(got.broken.Error(), want) {
				t.Errorf("%s %.40q: %+v, want %s", format, broken, got.broken, want)
			}
		}
	}
}
