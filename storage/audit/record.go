package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// Bounds of a record's strings, in bytes as they are stored (escaped). Together with
// member names, numbers and hash they keep a record below 4 KiB.
const (
	maxAction = 64
	maxBy     = 256
	maxTarget = 512
	maxDetail = 2048 // all names and values of Detail together
	maxFacts  = 24   // members of Detail
	maxName   = 64   // one name in Detail

	cutMark = "..."
)

// bounded returns e as a record within the bounds. Of a Detail that is too large it keeps
// the facts whose names sort first.
func bounded(e Event) Record {
	r := Record{
		Action: cut(e.Action, maxAction),
		By:     cut(e.By, maxBy),
		Target: cut(e.Target, maxTarget),
	}
	if len(e.Detail) == 0 {
		return r
	}
	r.Detail = make(map[string]string)
	left := maxDetail
	for _, name := range slices.Sorted(maps.Keys(e.Detail)) {
		short := cut(name, maxName)
		if len(r.Detail) == maxFacts || left < storedSize(short)+len(cutMark) {
			r.Detail[cutMark] = "more" // the bounds leave space for this
			break
		}
		left -= storedSize(short)
		value := cut(e.Detail[name], left) // if two names are equal after the cut, the later one stays
		left -= storedSize(value)
		r.Detail[short] = value
	}
	return r
}

// cut returns s if it has at most limit bytes when stored, else its beginning and a mark.
// It replaces bytes that are not UTF-8, because encoding/json would do that later and two
// names in Detail that differ only in such bytes would become the same name twice.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if storedSize(s) <= limit {
		return s
	}
	kept := len(cutMark)
	for i, r := range s {
		if kept += runeSize(r); kept > limit {
			return s[:i] + cutMark
		}
	}
	return s
}

// storedSize returns how many bytes s has at most when it is stored.
func storedSize(s string) int {
	n := 0
	for _, r := range s {
		n += runeSize(r)
	}
	return n
}

func runeSize(r rune) int {
	switch {
	case r >= 0x10000:
		return len(`\ud83d\ude00`)
	case r < ' ' || r > '~' || r == '<' || r == '>' || r == '&':
		return len(`\u0000`)
	case r == '"' || r == '\\':
		return len(`\\`)
	}
	return 1
}

// Line returns r as it is stored: one line of JSON in printable ASCII, whose hash is Previous of the
// next record.
func (r Record) Line() ([]byte, error) { return encode(r) }

// encode returns the bytes in which r is stored. Equal records have equal bytes, because
// the chain hashes them: members are in the order of the type, the names in Detail are
// sorted, and everything is printable ASCII.
func encode(r Record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode audit record: %w", err)
	}
	if !bytes.ContainsFunc(b, notASCII) {
		return b, nil
	}
	// encoding/json escapes only what JSON requires. Terminals also act on the control
	// characters from U+007F on, and text that changes its direction misleads readers.
	var out bytes.Buffer
	for _, r := range string(b) {
		switch {
		case !notASCII(r):
			out.WriteRune(r)
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes(), nil
}

func notASCII(r rune) bool { return r > '~' }
