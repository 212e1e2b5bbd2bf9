package config

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"

	"keymill/keystore"
)

// TestEveryFileMayHaveAByteOrderMark: the configuration, the master key in each of its places, and
// the webhook's secret.
func TestEveryFileMayHaveAByteOrderMark(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for name, text := range terminaltest.Encodings("issuer: https://id.example.com\r\nkeys:\r\n  algorithms: [EdDSA] # für Zoë 😀\r\n") {
		c, err := Load(writeFile(t, "keymill.yaml", text), nil, false)
		if err != nil || c.Issuer != "https://id.example.com" || len(c.Algorithms) != 1 {
			t.Errorf("configuration in %s: %+v, %v", name, c, err)
		}
	}
	raw := []byte("\xef\xbb\xbf\xff\xfe thirty-two random bytes ..")
	want, err := keystore.ParseMasterKey([]byte(hex.EncodeToString(raw)))
	if err != nil || len(raw) != rawMasterKeyBytes {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	for _, text := range []string{hex.EncodeToString(raw) + "\r\n", base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw) + "\n"} {
		for name, text := range terminaltest.Encodings(text) {
			checkMasterKey(t, name, text, want)
		}
	}
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff", "\xff\xfe\x00\x00", "\x00\x01"} {
		key := mark + string(raw[len(mark):]) // raw keys that begin like text
		want, err := keystore.ParseMasterKey([]byte(hex.EncodeToString([]byte(key))))
		if err != nil {
			t.Fatal(err)
		}
		checkMasterKey(t, "raw", key, want)
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	for name, text := range terminaltest.Encodings(secret + "\r\n") {
		c := Config{WebhookURL: "https://hooks.example", WebhookSecretFile: writeFile(t, "secret", text)}
		if got, err := c.WebhookSecret(); string(got) != secret || err != nil {
			t.Errorf("webhook secret in %s: %q, %v", name, string(got), err)
		}
	}
}

// TestAVariableWithAByteOrderMarkIsNotIgnored: the first line of a file with variables may begin with one,
// and then the name has it. A setting and a secret must not be lost by that.
func TestAVariableWithAByteOrderMarkIsNotIgnored(t *testing.T) {
	for _, name := range []string{"KEYMILL_ISSUER", "KEYMILL_MASTER_KEY", "KEYMILL_CONFIG", "KEYMILL_ISSUERR"} {
		terminaltest.ClearEnvironment(t)
		t.Setenv("\ufeff"+name, "hush")
		_, err := Load("", nil, false)
		if err == nil || !strings.HasPrefix(err.Error(), "the name of the variable "+name+" begins with a byte order mark; save the file ") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
		os.Unsetenv("\ufeff" + name)
	}
	t.Setenv("\ufeffPATH", "x") // of another program
	if _, err := Load("", nil, false); err != nil {
		t.Error(err)
	}
}

// checkMasterKey reads text as a file, a credential of systemd and, as far as it can be one, a variable.
func checkMasterKey(t *testing.T, name, text string, want keystore.MasterKey) {
	t.Helper()
	path := writeFile(t, masterKeyPlaces("").credential, text)
	key, err := (&Config{MasterKeyFile: path}).MasterKey()
	if key != want || err != nil {
		t.Errorf("%s in a file: %v", name, err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	if key, err = (&Config{}).MasterKey(); key != want || err != nil {
		t.Errorf("%s in a credential: %v", name, err)
	}
	os.Unsetenv("CREDENTIALS_DIRECTORY")
	if strings.Contains(text, "\x00") {
		return
	}
	t.Setenv(masterKeyPlaces("").variable, text)
	if key, err = (&Config{}).MasterKey(); key != want || err != nil {
		t.Errorf("%s in a variable: %v", name, err)
	}
}

// TestAnEncodingThatCannotBeReadIsNamed, and nothing of the text is.
func TestAnEncodingThatCannotBeReadIsNamed(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	utf16LE := terminaltest.Encodings("issuer: https://id.example.com\n")["UTF-16 LE"]
	for text, want := range map[string]string{
		utf16LE[2:]:                  ":1: the text is in UTF-16 without a byte order mark; save it as UTF-8",
		utf16LE + "x":                ":1: the text is not UTF-16: byte ",
		"\xff\xfe\x00\x00i\x00":      ":1: the text is in UTF-32",
		"\xff\xfe" + "\x3d\xd8i\x00": ":1: the text is not UTF-16: byte 2 begins half a character",
	} {
		path := writeFile(t, "keymill.yaml", text)
		if _, err := Load(path, nil, false); err == nil || !strings.HasPrefix(err.Error(), path+want) {
			t.Errorf("configuration %q: %v, want %s", text, err, want)
		}
	}
	key := terminaltest.Encodings(strings.Repeat("0123456789abcdef", 4) + "\n")["UTF-16 LE"]
	for text, want := range map[string]string{
		key[2:]: ": the text is in UTF-16 without", key + "x": ": the text is not UTF-16", "\xff\xfe\x00\x000\x00": ": the text is in UTF-32",
		"\ufeff" + strings.Repeat("0123456789abcdef", 3): " does not hold a master key",
	} {
		path := writeFile(t, "master.key", text)
		_, err := (&Config{MasterKeyFile: path}).MasterKey()
		if err == nil || !strings.HasPrefix(err.Error(), path+want) || strings.Contains(err.Error()[len(path):], "0123") {
			t.Errorf("master key %q: %v, want %s", text, err, want)
		}
		c := Config{WebhookURL: "https://hooks.example", WebhookSecretFile: path}
		if _, err := c.WebhookSecret(); err == nil || strings.Contains(strings.ReplaceAll(err.Error(), path, ""), "0123") {
			t.Errorf("webhook secret %q: %v", text, err)
		}
	}
}
