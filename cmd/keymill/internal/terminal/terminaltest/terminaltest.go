// Package terminaltest has what tests of commands share: the text that people feed to them, and an
// environment without variables of Keymill, and what they need of the machine.
package terminaltest

import (
	"strings"
	"unicode/utf16"
)

// Encodings returns text as editors and shells save it: the name of an encoding → the bytes.
func Encodings(text string) map[string]string {
	var little, big strings.Builder
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		little.Write([]byte{byte(unit), byte(unit >> 8)})
		big.Write([]byte{byte(unit >> 8), byte(unit)})
	}
	return map[string]string{"UTF-8": text, "UTF-8 with a mark": "\ufeff" + text, "UTF-16 LE": little.String(), "UTF-16 BE": big.String()}
}
