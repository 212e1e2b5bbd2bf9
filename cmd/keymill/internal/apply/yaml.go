package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"keymill/cmd/keymill/internal/config"
)

// A Place is where something is written.
type Place struct {
	File string
	Line int
}

// String returns "clients.yaml:12", or "" if nothing is written anywhere.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// wrong returns an error that begins with the place.
func (p Place) wrong(format string, args ...any) error {
	return fmt.Errorf("%s: %s", p, fmt.Sprintf(format, args...))
}

// documents parses a file and returns the bodies of its documents.
func documents(file string, text []byte) ([]ast.Node, error) {
	text, line, err := config.YAMLText(text)
	if err != nil {
		return nil, Place{file, line}.wrong("%s", err)
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		line, reason := config.YAMLFault(err)
		return nil, Place{file, line}.wrong("%s", reason)
	}
	var bodies []ast.Node
	for _, d := range parsed.Docs {
		if d.Body != nil && d.Body.Type() != ast.DirectiveType { // "%YAML 1.2"
			bodies = append(bodies, d.Body)
		}
	}
	return bodies, nil
}

func placeOf(file string, n ast.Node) Place {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return Place{file, t.Position.Line}
	}
	return Place{file, 1}
}

// A pair is one line "key: value" of a mapping.
type pair struct {
	key   string
	value ast.Node
	at    Place
}

// pairs reads a mapping. what is how an error calls it. Anchors, aliases, tags and merge keys are refused:
// they make a file hard to read, and a small one large.
func pairs(file string, n ast.Node, what string) ([]pair, error) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, placeOf(file, n).wrong("%s must be lines like \"name: value\"", what)
	}
	var list []pair
	first := map[string]int{}
	for _, v := range values {
		at := placeOf(file, v.Key)
		key, ok := config.Scalar(v.Key)
		if !ok {
			return nil, at.wrong("%s has a key that is not plain text", what)
		}
		if line, twice := first[key]; twice {
			return nil, at.wrong("%q is written twice, first in line %d", cut(key), line)
		}
		first[key] = at.Line
		list = append(list, pair{key, v.Value, at})
	}
	return list, nil
}

// items reads a list.
func items(p pair) ([]ast.Node, error) {
	if list, ok := p.value.(*ast.SequenceNode); ok {
		return list.Values, nil
	}
	return nil, p.at.wrong("%s must be a list", cut(p.key))
}

// text reads a plain value.
func (p pair) text() (string, error) {
	text, ok := config.Scalar(p.value)
	if !ok {
		return "", p.at.wrong("%s must be one plain value", p.key)
	}
	return text, nil
}

// texts reads a list of plain values. It never returns nil.
func (p pair) texts() ([]string, error) {
	nodes, err := items(p)
	if err != nil {
		return nil, err
	}
	list := []string{}
	for _, n := range nodes {
		text, ok := config.Scalar(n)
		if !ok {
			return nil, placeOf(p.at.File, n).wrong("%s must be a list of plain values; put a value with a colon in quotes", p.key)
		}
		list = append(list, text)
	}
	return distinct(list), nil
}

// boolean reads true or false.
func (p pair) boolean() (bool, error) {
	if b, ok := p.value.(*ast.BoolNode); ok {
		return b.Value, nil
	}
	return false, p.at.wrong("%s must be true or false", p.key)
}

// distinct returns list sorted and without repetitions, as the server shows it.
func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// maxDepth is how deep claims may be nested.
const maxDepth = 20

// toJSON returns a value as JSON.
func toJSON(file string, n ast.Node, depth int) (json.RawMessage, error) {
	if n == nil {
		return json.RawMessage("null"), nil
	}
	if depth > maxDepth {
		return nil, placeOf(file, n).wrong("a claim is nested deeper than %d levels", maxDepth)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return json.RawMessage("null"), nil
	case *ast.BoolNode:
		return json.Marshal(n.Value)
	case *ast.IntegerNode, *ast.FloatNode:
		number := n.GetToken().Value
		if !json.Valid([]byte(number)) {
			return nil, placeOf(file, n).wrong("a claim has a number that is not written as JSON does, such as 0x10, 012 or .5; put it in quotes if it is text")
		}
		return json.RawMessage(number), nil
	case *ast.SequenceNode:
		return arrayJSON(file, n, depth)
	case *ast.MappingNode, *ast.MappingValueNode:
		return objectJSON(file, n, depth)
	}
	text, ok := config.Scalar(n)
	if !ok {
		return nil, placeOf(file, n).wrong("a claim must be text, a number, true, false, null, a list or a mapping")
	}
	return json.Marshal(text)
}

func arrayJSON(file string, n *ast.SequenceNode, depth int) (json.RawMessage, error) {
	list := []json.RawMessage{}
	for _, item := range n.Values {
		raw, err := toJSON(file, item, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, raw)
	}
	return json.Marshal(list)
}

func objectJSON(file string, n ast.Node, depth int) (json.RawMessage, error) {
	members, err := pairs(file, n, "a claim")
	if err != nil {
		return nil, err
	}
	object := map[string]json.RawMessage{}
	for _, m := range members {
		if object[m.key], err = toJSON(file, m.value, depth+1); err != nil {
			return nil, err
		}
	}
	return json.Marshal(object)
}

// cut keeps a text of a file from filling a message.
func cut(text string) string {
	const most = 100
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// because is wrong for an error that has a cause of its own.
func (p Place) because(what string, err error) error { return fmt.Errorf("%s: %s: %w", p, what, err) }
