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

// Bounds of a record's strings, in bytes as they are stored, that is escaped. With
// names, numbers and hash they keep a record under 4 KiB.
const (
	maxAction = 64
	maxBy     = 256
	maxTarget = 512
	maxDetail = 2048 // all names and values together
	maxFacts  = 24
	maxName   = 64

	cutMark = "..."
)

// bounded returns e as a record, cut to size. Of a detail too large the facts that
// come first in the order of their names are kept.
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
		if len(r.Detail) == maxFacts || left < size(short)+len(cutMark) {
			r.Detail[cutMark] = "more" // three bytes, for which the bounds have room
			break
		}
		left -= size(short)
		value := cut(e.Detail[name], left) // of two names cut to one, the last
		left -= size(value)
		r.Detail[short] = value
	}
	return r
}

// cut returns s if it is at most limit bytes when stored, else a part of it and a
// mark. Bytes that are no UTF-8 are replaced here and not by encoding/json, which
// would make one name twice of two that differ only in them.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if size(s) <= limit {
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

// size is what s takes at most when it is stored.
func size(s string) int {
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

// encode returns the one form in which r is stored: members in the order of the
// type, details in that of their names, nothing but printable ASCII.
func encode(r Record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode audit record: %w", err)
	}
	if !bytes.ContainsFunc(b, beyond) {
		return b, nil
	}
	// encoding/json escapes what JSON demands. Terminals also obey the control
	// characters from U+007F on, and readers are fooled by text that changes its
	// direction.
	var out bytes.Buffer
	for _, r := range string(b) {
		switch {
		case !beyond(r):
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

func beyond(r rune) bool { return r > '~' }
