// Package strictjson reads JSON (RFC 8259) so that two readers cannot understand one text differently:
// it refuses repeated names, broken UTF-8 and lone surrogates, and it bounds nesting and members. It
// returns values as they were written, and decodes only the strings that are asked for.
package strictjson

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// fewNames is the number of names up to which names are compared one by one. Nearly every
// object has fewer, and a map would cost more than the rest of the scan.
const fewNames = 32

var errNotJSON = errors.New("not JSON")

// Rules are what a text must keep beyond the grammar. Names at the top level are always unique.
type Rules struct {
	Depth   int  // most levels, including the outermost object
	Members int  // most members of all objects together
	Strict  bool // refuse repeated names and lone surrogates at every level
}

// ErrDuplicateMember is the error for an object with two members of one name.
var ErrDuplicateMember = errors.New("duplicate member")

// A scanner reads a JSON text (RFC 8259) once, from its first byte to its last. encoding/json
// would use the last of two members with one name, ignore the case of names, and replace
// broken UTF-8. Each of these lets two readers see two different tokens. Its decoder also
// costs four times as much as the rest of a verification.
type scanner struct {
	text  string
	at    int
	rules Rules
	read  int // members so far

	// The names of the objects that are open now, the innermost object last, up to fewNames. It
	// is an array because a slice would have to be allocated.
	names [fewNames]string
	named int
}

// Scan reads text as one object and calls each with every member: the name without
// escapes, and the value as it was written.
func Scan(text string, r Rules, each func(name, raw string) error) error {
	if !utf8.ValidString(text) {
		return errNotJSON
	}
	s := scanner{text: text, rules: r}
	s.space()
	if s.peek() != '{' {
		return errors.New("not a JSON object")
	}
	if err := s.object(1, each); err != nil {
		return err
	}
	s.space()
	if s.at != len(text) {
		return errNotJSON
	}
	return nil
}

// ScanArray calls each with every element of an array. Scan has read the array before, so its grammar
// is correct and its depth is bounded.
func ScanArray(raw string, each func(raw string) error) error {
	s := scanner{text: raw, rules: Rules{Depth: math.MaxInt, Members: math.MaxInt}}
	return s.array(1, each)
}

// object reads from { to }.
func (s *scanner) object(depth int, each func(name, raw string) error) error {
	if depth > s.rules.Depth {
		return fmt.Errorf("nested deeper than %d levels", s.rules.Depth)
	}
	s.at++
	if s.next('}') {
		return nil
	}
	unique := s.rules.Strict || depth == 1
	open := s.named
	var many map[string]bool // the names, if there are more than fewNames
	for {
		name, err := s.name(unique)
		if err != nil {
			return err
		}
		if unique {
			if many, err = s.unique(name, open, many); err != nil {
				return err
			}
		}
		raw, err := s.value(depth)
		if err != nil {
			return err
		}
		if each != nil {
			if err := each(name, raw); err != nil {
				return err
			}
		}
		if s.next(',') {
			continue
		}
		if !s.next('}') {
			return errNotJSON
		}
		s.named = open
		return nil
	}
}

// name reads a name and its colon. If the name is wanted, it is returned with its escapes
// resolved, since two names that differ only in their escapes are the same name.
func (s *scanner) name(wanted bool) (string, error) {
	if s.read++; s.read > s.rules.Members {
		return "", fmt.Errorf("over %d members", s.rules.Members)
	}
	s.space()
	if s.peek() != '"' {
		return "", errNotJSON
	}
	name, escaped, err := s.quoted()
	if err == nil && escaped && wanted {
		name, err = unescape(name)
	}
	if err == nil && !s.next(':') {
		err = errNotJSON
	}
	return name, err
}

// unique refuses a name that the object has already. The names so far are in many, or in
// s.names from open on if many is nil.
func (s *scanner) unique(name string, open int, many map[string]bool) (map[string]bool, error) {
	if many == nil {
		few := s.names[open:s.named]
		if slices.Contains(few, name) {
			return nil, duplicateMember(name)
		}
		if s.named < fewNames {
			s.names[s.named] = name
			s.named++
			return nil, nil
		}
		many = make(map[string]bool, 2*fewNames)
		for _, other := range few {
			many[other] = true
		}
	}
	if many[name] {
		return nil, duplicateMember(name)
	}
	many[name] = true
	return many, nil
}

// A duplicateMember is the name of a member that an object has twice.
type duplicateMember string

// Error names the member.
func (name duplicateMember) Error() string {
	return fmt.Sprintf("member %.100q occurs twice", string(name))
}

// Is lets errors.Is find ErrDuplicateMember.
func (name duplicateMember) Is(target error) bool { return target == ErrDuplicateMember }

// array reads from [ to ].
func (s *scanner) array(depth int, each func(raw string) error) error {
	if depth > s.rules.Depth {
		return fmt.Errorf("nested deeper than %d levels", s.rules.Depth)
	}
	s.at++
	if s.next(']') {
		return nil
	}
	for {
		raw, err := s.value(depth)
		if err != nil {
			return err
		}
		if each != nil {
			if err := each(raw); err != nil {
				return err
			}
		}
		if s.next(',') {
			continue
		}
		if !s.next(']') {
			return errNotJSON
		}
		return nil
	}
}

// value reads any value at the level depth and returns it as it was written.
func (s *scanner) value(depth int) (raw string, err error) {
	s.space()
	start := s.at
	switch s.peek() {
	case '{':
		err = s.object(depth+1, nil)
	case '[':
		err = s.array(depth+1, nil)
	case '"':
		_, _, err = s.quoted()
	case 't':
		err = s.literal("true")
	case 'f':
		err = s.literal("false")
	case 'n':
		err = s.literal("null")
	default:
		err = s.number()
	}
	return s.text[start:s.at], err
}

func (s *scanner) literal(word string) error {
	if len(s.text)-s.at < len(word) || s.text[s.at:s.at+len(word)] != word {
		return errNotJSON
	}
	s.at += len(word)
	return nil
}

func (s *scanner) number() error {
	s.has('-')
	if !s.has('0') && !s.digits() { // nothing follows a leading zero
		return errNotJSON
	}
	if s.has('.') && !s.digits() {
		return errNotJSON
	}
	if s.has('e') || s.has('E') {
		if !s.has('+') {
			s.has('-')
		}
		if !s.digits() {
			return errNotJSON
		}
	}
	return nil
}

// digits reads one digit or more.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// quoted reads a string and returns the text between the quotes, with its escapes.
func (s *scanner) quoted() (inner string, escaped bool, err error) {
	start := s.at + 1
	for i := start; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.at = i + 1
			inner = s.text[start:i]
			if escaped && s.rules.Strict {
				_, err = unescape(inner)
			}
			return inner, escaped, err
		case c == '\\':
			escaped = true
			n := escapeLength(s.text[i:])
			if n == 0 {
				return "", false, errNotJSON
			}
			i += n - 1
		case c < ' ':
			return "", false, errNotJSON
		}
	}
	return "", false, errNotJSON
}

// peek returns the next byte, and 0 after the last. No JSON text contains a 0.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// has skips c if it is the next byte.
func (s *scanner) has(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// next skips white space, and then c if it is the next byte.
func (s *scanner) next(c byte) bool {
	s.space()
	return s.has(c)
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}
