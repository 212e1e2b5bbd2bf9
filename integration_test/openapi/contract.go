package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// An Exchange is a request to the admin API and its answer, as the tests of issuer/endpoint write it.
type Exchange struct {
	Method, Path, Query string
	Request             string
	Status              int
	ContentType, Answer string
}

// A Contract checks exchanges against the document. It is stricter than the document about answers: a
// member that is not described is a fault.
type Contract struct {
	paths     object
	responses object // of the components
	compiler  *jsonschema.Compiler
	compiled  map[string]*jsonschema.Schema // JSON pointer → schema
}

const base = "https://keymill.invalid/openapi.json"

// NewContract reads a document. Each of its schemas must be valid JSON Schema 2020-12.
func NewContract(document []byte) (*Contract, error) {
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, err
	}
	all := parsed.(object)
	c := &Contract{paths: all["paths"].(object), responses: within(all, "components", "responses"), compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}}
	components := all["components"].(object)["schemas"].(object)
	for _, schema := range components {
		if s := schema.(object); s["properties"] != nil && s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
	}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(base, parsed); err != nil {
		return nil, err
	}
	return c, c.compileAll(all)
}

// compileAll compiles every schema below v, and so finds references that lead nowhere.
func (c *Contract) compileAll(v any, place ...string) error {
	switch v := v.(type) {
	case object:
		for name, member := range v {
			below := append(slices.Clone(place), name)
			if name == "schema" || slices.Equal(place, []string{"components", "schemas"}) {
				if _, err := c.schema(below...); err != nil {
					return err
				}
			} else if err := c.compileAll(member, below...); err != nil {
				return err
			}
		}
	case []any:
		for n, member := range v {
			if err := c.compileAll(member, append(slices.Clone(place), fmt.Sprint(n))...); err != nil {
				return err
			}
		}
	}
	return nil
}

// schema returns the schema at a place in the document.
func (c *Contract) schema(place ...string) (*jsonschema.Schema, error) {
	pointer := ""
	for _, part := range place {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(part)
	}
	if c.compiled[pointer] == nil {
		s, err := c.compiler.Compile(base + "#" + url.PathEscape(pointer))
		if err != nil {
			return nil, err
		}
		c.compiled[pointer] = s
	}
	return c.compiled[pointer], nil
}

func within(o object, place ...string) object {
	for _, part := range place {
		o, _ = o[part].(object)
	}
	return o
}

// Check returns what of an exchange is not as the document says.
func (c *Contract) Check(e Exchange) error {
	method := strings.ToLower(e.Method)
	operation := within(c.paths, e.Path, method)
	if operation == nil {
		if e.Status != 404 && e.Status != 405 {
			return fmt.Errorf("the document does not have %s %s, and the answer is %d", e.Method, e.Path, e.Status)
		}
		return c.checkJSON(e.Answer, "components", "schemas", "Problem")
	}
	if e.Status < 300 {
		if err := c.checkRequest(operation, e); err != nil {
			return fmt.Errorf("a request that was accepted is invalid: %w", err)
		}
	}
	status := fmt.Sprint(e.Status)
	response, place := within(operation, "responses", status), []string{"paths", e.Path, method, "responses", status}
	if response == nil {
		return fmt.Errorf("status %s is not described", status)
	}
	if to, ok := response["$ref"].(string); ok {
		name := strings.TrimPrefix(to, "#/components/responses/")
		response, place = within(c.responses, name), []string{"components", "responses", name}
	}
	content := within(response, "content")
	if content == nil {
		if e.Answer != "" {
			return fmt.Errorf("the answer to %s has a body", status)
		}
		return nil
	}
	media := within(content, e.ContentType)
	if media == nil {
		return fmt.Errorf("content type %q is not described", e.ContentType)
	}
	if media["schema"] == nil {
		return nil
	}
	return c.checkJSON(e.Answer, append(place, "content", e.ContentType, "schema")...)
}

func (c *Contract) checkJSON(text string, place ...string) error {
	schema, err := c.schema(place...)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("%w in %.100q", err, text)
	}
	return schema.Validate(v)
}

// checkRequest checks the query and the body.
func (c *Contract) checkRequest(operation object, e Exchange) error {
	query, err := url.ParseQuery(e.Query)
	if err != nil {
		return err
	}
	method := strings.ToLower(e.Method)
	known := []string{}
	parameters, _ := operation["parameters"].([]any)
	for n, p := range parameters {
		parameter := p.(object)
		name := parameter["name"].(string)
		if parameter["in"] != "query" {
			continue
		}
		known = append(known, name)
		if !query.Has(name) {
			if parameter["required"] == true {
				return fmt.Errorf("parameter %s is missing", name)
			}
			continue
		}
		text := query.Get(name)
		if within(parameter, "schema")["type"] != "integer" {
			quoted, _ := json.Marshal(text)
			text = string(quoted)
		}
		if err := c.checkJSON(text, "paths", e.Path, method, "parameters", fmt.Sprint(n), "schema"); err != nil {
			return err
		}
	}
	for name := range query {
		if !slices.Contains(known, name) {
			return fmt.Errorf("parameter %s is not described", name)
		}
	}
	if within(operation, "requestBody") == nil || e.Path == "/admin/v1/users/import" { // it answers about each user
		return nil
	}
	return c.checkJSON(e.Request, "paths", e.Path, method, "requestBody", "content", "application/json", "schema")
}
