package config

import (
	"strings"
	"testing"
)

// TestAFileThatIsNotUTF8IsRefused: the library would replace the byte, and another value would be used.
func TestAFileThatIsNotUTF8IsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"listen: 127.0.0.1:1\ndata: /srv/caf\xe9\n": "2: the text is not UTF-8; save it as UTF-8",
		"%YAML 1.2\n---\ndata: /srv/café\n":         "",
		"keys:\n\trotate_every: 1h\n":               `2: not YAML: found character '\t' that cannot start any token`,
	} {
		_, err := parseConfig([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
