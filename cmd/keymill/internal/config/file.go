package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// A fileEntry is one setting in the file.
type fileEntry struct {
	key   string
	line  int
	value value
}

// maxConfigBytes is far more than all settings need.
const maxConfigBytes = 256 << 10

// readFile reads the file strictly: plain values only, every key known, no key twice. Its
// errors begin with the name of the file and the line.
func readFile(name string) ([]fileEntry, error) {
	text, err := namedfile.Read(name, maxConfigBytes)
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: name, Use: namedfile.ToShare}, fmt.Errorf("configuration: %w", err))
	}
	entries, err := parseConfig(text)
	var bad *lineError
	if errors.As(err, &bad) {
		return nil, fmt.Errorf("%s:%d: %s", name, bad.line, bad.text)
	}
	return entries, err
}

type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func wrongAt(n ast.Node, format string, args ...any) error {
	line := 1
	if t := n.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return &lineError{line, fmt.Sprintf(format, args...)}
}

func parseConfig(text []byte) ([]fileEntry, error) {
	text, line, err := YAMLText(text)
	if err != nil {
		return nil, &lineError{line, err.Error()}
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		line, reason := YAMLFault(err)
		return nil, &lineError{line, reason}
	}
	r := &fileReader{line: map[string]int{}}
	for _, s := range Settings() {
		r.settings = append(r.settings, s.Key)
		if name, _, ok := strings.Cut(s.Key, "."); ok {
			r.groups = append(r.groups, name)
		}
	}
	bodies := 0
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType { // "%YAML 1.2"
			continue
		}
		if bodies++; bodies > 1 {
			return nil, wrongAt(doc.Body, "a second document begins here; only one is allowed")
		}
		if err := r.mapping("", doc.Body); err != nil {
			return nil, err
		}
	}
	return r.entries, nil
}

type fileReader struct {
	settings, groups []string
	entries          []fileEntry
	line             map[string]int // key → where it was first written
}

// mapping reads the keys below prefix, "" at the top and "keys." within keys.
func (r *fileReader) mapping(prefix string, n ast.Node) error {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return wrongAt(n, "settings are lines like \"listen: 127.0.0.1:8420\"")
	}
	for _, p := range pairs {
		if err := r.pair(prefix, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *fileReader) pair(prefix string, p *ast.MappingValueNode) error {
	key := prefix + p.Key.GetToken().Value
	switch {
	case slices.Contains(r.settings, key) && !r.isGroup(key, p.Value):
		if first, twice := r.line[key]; twice {
			return wrongAt(p.Key, "%s is set twice, first in line %d", key, first)
		}
		v, err := plainValue(key, p)
		if err != nil {
			return err
		}
		line := p.Key.GetToken().Position.Line
		r.line[key] = line
		r.entries = append(r.entries, fileEntry{key, line, v})
		return nil
	case prefix == "" && slices.Contains(r.groups, key):
		switch p.Value.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			return r.mapping(key+".", p.Value)
		}
		return wrongAt(p.Key, "%s is a group of settings, indented below it: %s", key, strings.Join(r.below(key), ", "))
	}
	if near := terminal.Nearest(key, append(r.groups, r.settings...)); near != "" {
		return wrongAt(p.Key, "unknown setting %q; did you mean %q?", key, near)
	}
	return wrongAt(p.Key, "unknown setting %q; run \"keymill serve --help\" to list the settings", key)
}

// isGroup reports whether settings follow below key. "store" is a setting and a group, and the value tells which.
func (r *fileReader) isGroup(key string, n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return slices.Contains(r.groups, key)
	}
	return false
}

func (r *fileReader) below(group string) []string {
	var names []string
	for _, s := range r.settings {
		if name, ok := strings.CutPrefix(s, group+"."); ok {
			names = append(names, name)
		}
	}
	return names
}

// plainValue reads a scalar or a list of scalars. Anchors, aliases and tags are refused,
// because they make a short file hard to read and no setting needs them.
func plainValue(key string, p *ast.MappingValueNode) (value, error) {
	n := p.Value
	if n == nil || n.Type() == ast.NullType {
		return value{}, wrongAt(p.Key, "%s has no value", key)
	}
	if seq, ok := n.(*ast.SequenceNode); ok {
		v := value{list: true}
		for _, item := range seq.Values {
			text, ok := Scalar(item)
			if !ok {
				return v, wrongAt(item, "%s takes a list of plain values", key)
			}
			v.texts = append(v.texts, text)
		}
		return v, nil
	}
	text, ok := Scalar(n)
	if !ok {
		return value{}, wrongAt(n, "%s takes a plain value", key)
	}
	return value{texts: []string{text}}, nil
}

// Scalar returns the text of a plain value as it is written; ok is false for any other node.
func Scalar(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}
