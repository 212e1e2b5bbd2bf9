// Package names decides which names audiences and clients can have. A name is the last part of the key of a
// record.
package names

import "strings"

// The longest names.
const (
	MaxAudienceBytes = 200
	MaxClientBytes   = 100
)

// IsAudience reports whether s is 1 to 200 visible ASCII characters.
func IsAudience(s string) bool { return s != "" && len(s) <= MaxAudienceBytes && isVisible(s) }

// IsClient reports whether s is 1 to 100 characters VSCHAR (RFC 6749, appendix A.1) without a space
// at either end, because shells and forms trim it.
func IsClient(s string) bool {
	return s != "" && len(s) <= MaxClientBytes && s == strings.Trim(s, " ") &&
		isVisible(strings.ReplaceAll(s, " ", "_"))
}

func isVisible(s string) bool {
	for n := range len(s) {
		if s[n] < 0x21 || s[n] > 0x7e {
			return false
		}
	}
	return true
}
