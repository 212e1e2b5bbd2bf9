// Package names decides which names audiences, clients and users can have. A name is the last part of the key of a
// record.
package names

import "strings"

// The longest names.
const (
	MaxAudienceBytes = 200
	MaxClientBytes   = 100
	MaxUserBytes     = 64 // so that the record of a session stays within 160 bytes
)

// IsAudience reports whether s is 1 to 200 visible ASCII characters.
func IsAudience(s string) bool { return s != "" && len(s) <= MaxAudienceBytes && isVisible(s) }

// IsClient reports whether s is 1 to 100 characters VSCHAR (RFC 6749, appendix A.1) without a space
// at either end, because shells and forms trim it.
func IsClient(s string) bool {
	return s != "" && len(s) <= MaxClientBytes && s == strings.Trim(s, " ") &&
		isVisible(strings.ReplaceAll(s, " ", "_"))
}

// IsUser reports whether s can be the id of a user: that of a client, and at most 64 characters.
func IsUser(s string) bool { return IsClient(s) && len(s) <= MaxUserBytes }

func isVisible(s string) bool {
	for n := range len(s) {
		if s[n] < 0x21 || s[n] > 0x7e {
			return false
		}
	}
	return true
}
