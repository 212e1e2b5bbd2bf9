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

// TestAFileThatIsNestedDeepIsRefusedAtOnce: the library needs minutes for such a file.
func TestAFileThatIsNestedDeepIsRefusedAtOnce(t *testing.T) {
	const refused = "nested deeper than 100 levels"
	for text, want := range map[string]string{
		"listen: " + strings.Repeat("[", 130_000):                                "line 1: lists or mappings are " + refused,
		"a:\nb: " + strings.Repeat("{x: ", 60_000) + strings.Repeat("}", 60_000): "line 2: lists or mappings are " + refused,
		"listen:\n" + strings.Repeat("- ", 100_000):                              "line 2: lists or mappings are " + refused,
		strings.Repeat("[\n", 100_000):                                           "line 101: lists or mappings are " + refused,
		"listen: a # " + strings.Repeat("[]", 1000):                              "",
		strings.Repeat("# [\n", 1000) + "listen: a":                              "",
		"listen: a # -----------------":                                          "",
	} {
		_, err := parseConfig([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}
