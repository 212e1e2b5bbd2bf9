package jwks

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// How deep a text may nest. No claim of ours goes past 3; a key set may hold more than
// is ever looked at, and is bounded by its length already.
const (
	maxDepth  = 16
	documents = 10_000 // what encoding/json allows
)

// fewNames is up to where names are compared one by one. Nearly every object is
// smaller, and a map would cost more than all of the rest of it.
const fewNames = 32

var errNotJSON = errors.New("not JSON")

// rules is what a scanner demands beyond the grammar.
type rules struct {
	depth   int  // levels, the outermost object among them
	members int  // of all objects together
	strict  bool // no name twice and no half of a surrogate pair below the top either
}

// A key set is judged key by key, so that what is wrong inside one of them costs no
// other: anything goes below the top of a document. What a token says is one whole, and
// its header is read before its signature, so it may not keep us busy.
var (
	documentRules = rules{depth: documents, members: math.MaxInt}
	strictRules   = rules{depth: maxDepth, members: math.MaxInt, strict: true}
	headerRules   = rules{depth: maxDepth, members: 64, strict: true}
)

// A scanner reads a JSON text (RFC 8259) once, from its first byte to its last.
// encoding/json would let the last of two equal names win, match names whatever their
// case, and mend broken UTF-8: three ways for two readers to see two different tokens.
// Its decoder also costs four times what the rest of a verification does.
type scanner struct {
	text  string
	at    int
	rules rules
	read  int // members so far

	// The first names of the objects that are open now, those of the innermost last. An
	// array, since a slice kept here would have to be allocated.
	names [fewNames]string
	named int
}

// scanObject reads text as one object, and hands each of its members to each: the name
// without escapes, the value as written.
func scanObject(text string, r rules, each func(name, raw string) error) error {
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

// scanArray hands each element of an array to each. The array is part of what
// scanObject has read.
func scanArray(raw string, each func(raw string) error) error {
	s := scanner{text: raw, rules: documentRules}
	return s.array(1, each)
}

// object reads from { to }.
func (s *scanner) object(depth int, each func(name, raw string) error) error {
	if depth > s.rules.depth {
		return fmt.Errorf("nested deeper than %d levels", s.rules.depth)
	}
	s.at++
	if s.next('}') {
		return nil
	}
	unique := s.rules.strict || depth == 1
	open := s.named
	var many map[string]bool // the names, once they are more than a few
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

// name reads a name and its colon. Two spellings of one name are the same name, so it
// is returned without escapes, unless nobody will look at it.
func (s *scanner) name(wanted bool) (string, error) {
	if s.read++; s.read > s.rules.members {
		return "", fmt.Errorf("over %d members", s.rules.members)
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

// unique refuses a name that the object has already: in s.names from open on, or in
// many where there is such a map.
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

func (name duplicateMember) Error() string {
	return fmt.Sprintf("member %q occurs twice", clip(string(name)))
}

// Is lets errors.Is find ErrDuplicateMember.
func (name duplicateMember) Is(target error) bool { return target == ErrDuplicateMember }

// array reads from [ to ].
func (s *scanner) array(depth int, each func(raw string) error) error {
	if depth > s.rules.depth {
		return fmt.Errorf("nested deeper than %d levels", s.rules.depth)
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

// value reads any value that stands at a level of depth, and returns it as written.
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

// digits reads at least one.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// quoted reads from quote to quote and returns what is between, escapes and all.
func (s *scanner) quoted() (inner string, escaped bool, err error) {
	start := s.at + 1
	for i := start; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.at = i + 1
			inner = s.text[start:i]
			if escaped && s.rules.strict {
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

// peek returns the next byte; 0, which no JSON text holds, after the last.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// has steps over c if it is the next byte.
func (s *scanner) has(c byte) bool {
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// next steps over white space, and over c if it follows.
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
