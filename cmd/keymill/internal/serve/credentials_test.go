package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestTrialCredentialsAreReadAsEditorsSaveThem.
func TestTrialCredentialsAreReadAsEditorsSaveThem(t *testing.T) {
	const text = `{"issuer": "http://127.0.0.1:8420", "clients": [{"client_id": "dev-service", "client_secret": "kms_x"}]}`
	var little, big []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		little, big = append(little, byte(unit), byte(unit>>8)), append(big, byte(unit>>8), byte(unit))
	}
	path := filepath.Join(t.TempDir(), "dev-credentials")
	for name, content := range map[string]string{"UTF-8": text, "a mark": "\ufeff" + text + "\r\n", "UTF-16 LE": string(little), "UTF-16 BE": string(big)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := ReadCredentials(path); err != nil || c.Secret("dev-service") != "kms_x" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, content := range []string{string(little[2:]), string(little) + "x", "\ufeff"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCredentials(path); err == nil || !strings.Contains(err.Error(), path+" is not a file that --dev wrote") {
			t.Errorf("%.8q: %v", content, err)
		}
	}
}
