package keyring

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"keymill/keystore/internal/vault"
)

func TestSecretsCannotBePrinted(t *testing.T) {
	master, line := NewMasterKey()
	v := vault.New([keyBytes]byte(bytes.Repeat([]byte("s"), keyBytes)), "db")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		out := fmt.Sprintf(verb+verb+verb, master, v, struct{ Master MasterKey }{master})
		for _, secret := range []string{strings.TrimSpace(string(line)), fmt.Sprint(master.secret[0], " ", master.secret[1]), "115 115", "0x73, 0x73"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s prints a secret: %s", verb, out)
			}
		}
	}
}

func TestAMasterKeyIsReadInEveryUsualForm(t *testing.T) {
	want, line := NewMasterKey()
	raw := want.secret[:]
	for _, text := range [][]byte{line, raw, []byte(hex.EncodeToString(raw)), bytes.TrimRight(line, "=\n")} {
		if got, err := ParseMasterKey(text); err != nil || got != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	other, second := NewMasterKey()
	for _, text := range []string{string(line) + string(second), hex.EncodeToString(raw) + "\r\n" + string(second) + "\n"} {
		if got, err := ParseMasterKey([]byte(text)); err != nil || got.each()[0] != want || got.each()[1] != other {
			t.Errorf("two lines: %v", err)
		}
	}
	for _, text := range []string{string(line) + string(second) + string(line), string(line) + "x", "x\n" + string(line), string(line) + strings.Repeat("0", 64), "", "short", strings.Repeat("0", 64), strings.Repeat("a", 33), string(line) + "x"} {
		if _, err := ParseMasterKey([]byte(text)); err == nil {
			t.Errorf("%q was accepted as a master key", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}
