package auditlog

import (
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
)

// actions returns every action that this version records, first part → the rest. docs/operate.md
// lists them as well.
func actions() map[string]string {
	return map[string]string{
		"server":    "start settings reload stop",
		"session":   "login logout revoked limit late_retry replay rolled_back shared many revoke_all rotate_secret",
		"token":     "revoke",
		"login":     "refused",
		"user":      "add import set rename enable disable passwd logout unblock remove rehash",
		"client":    "add set enable disable rotate_secret revoke_sessions remove",
		"audience":  "add set remove",
		"key":       "mint publish sign stop drop erase rotate revoke import renew",
		"store":     "accept_older backup create mark_missing migrate restore",
		"issuer":    "change",
		"apply":     "mark forget",
		"masterkey": "change",
		"verifier":  "add remove behind",
		"webhook":   "drop lost",
		"audit":     "damaged unreadable",
	}
}

// suggestAction returns the action that was probably meant, or "" if word is one or resembles none.
func suggestAction(word string) string {
	var known []string
	for first, rest := range actions() {
		known = append(known, first)
		for name := range strings.FieldsSeq(rest) {
			known = append(known, first+"."+name)
		}
	}
	if word == "" || slices.Contains(known, word) {
		return ""
	}
	slices.Sort(known) // of two that are equally near, always the same
	return terminal.Nearest(word, known)
}
