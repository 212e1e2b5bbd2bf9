// Package object writes JSON objects of texts and numbers, byte for byte as encoding/json writes a struct with these
// members. Every token is such an object, and so is the answer that has it: reflection took as long as all checks of
// the request together.
//
//	object.New(64).Text("iss", issuer).Number("exp", 1767225600).End()
package object

import (
	"encoding/json"
	"strconv"
	"strings"
)

// An Object is an object that has no end yet. Each method returns it with what it adds, and may write into it.
type Object []byte

// New returns an Object without members, with room for so many bytes.
func New(room int) Object { return append(make(Object, 0, room), '{') }

// Text adds a member. Its name must need no escaping.
func (o Object) Text(name, value string) Object {
	return appendText(o.name(name), value)
}

// Plain is Text for a value that needs no escaping either, such as a token in base64url.
func (o Object) Plain(name, value string) Object {
	o = append(append(o.name(name), '"'), value...)
	return append(o, '"')
}

// TextIf is Text, unless the value is empty.
func (o Object) TextIf(name, value string) Object {
	if value == "" {
		return o
	}
	return o.Text(name, value)
}

// Number adds a member. Its name must need no escaping.
func (o Object) Number(name string, value int64) Object {
	return strconv.AppendInt(o.name(name), value, 10)
}

// End returns the whole object.
func (o Object) End() []byte { return append(o, '}') }

func (o Object) name(name string) Object {
	if len(o) > 1 {
		o = append(o, ',')
	}
	o = append(append(o, '"'), name...)
	return append(o, '"', ':')
}

// appendText writes plain text as it is, and leaves all other to encoding/json.
func appendText(o Object, text string) Object {
	for n := range len(text) {
		if !plain[text[n]] {
			escaped, _ := json.Marshal(text) // a string cannot fail
			return append(o, escaped...)
		}
	}
	o = append(append(o, '"'), text...)
	return append(o, '"')
}

// plain has the bytes that encoding/json writes as they are, whatever is beside them.
var plain = func() (table [256]bool) {
	for c := ' '; c <= '~'; c++ {
		table[c] = !strings.ContainsRune(`"\<>&`, c)
	}
	return table
}()
