package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// object is a JSON object.
type object = map[string]any

// schemas are the components of the document. A type that is sent and answered has two.
type schemas struct {
	comments comments
	byName   object
}

// of returns the schema of a type, in a request or in an answer. That of a struct is a reference.
func (s *schemas) of(t reflect.Type, request bool) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[refusal.Secret]():
		secret := object{"type": "string", "format": "password"}
		if request {
			secret["writeOnly"] = true
		} else {
			secret["readOnly"] = true
		}
		return secret
	case reflect.TypeFor[api.RawUser]():
		return s.of(reflect.TypeFor[api.ImportedUser](), request)
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem(), request)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem(), request)}
	case reflect.Pointer:
		return nullable(s.of(t.Elem(), request))
	case reflect.Struct:
		return s.reference(t, request)
	}
	panic(fmt.Sprintf("no schema for %v", t))
}

// nullable allows null as well.
func nullable(schema object) object {
	kind, plain := schema["type"].(string)
	if !plain {
		return object{"anyOf": []any{schema, object{"type": "null"}}}
	}
	schema["type"] = []any{kind, "null"}
	if list, ok := schema["enum"].([]any); ok {
		schema["enum"] = append(list, nil)
	}
	return schema
}

// reference adds a struct to the components, and returns a reference to it.
func (s *schemas) reference(t reflect.Type, request bool) object {
	name := t.Name()
	if request && s.isAnswer(t) {
		name += "Request"
	}
	if s.byName[name] == nil {
		s.byName[name] = object{} // a type can contain itself
		s.byName[name] = s.structure(t, request)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// shownAs maps a request to the answer whose fields describe those of the request that have no comment.
var shownAs = map[reflect.Type]reflect.Type{
	reflect.TypeFor[api.NewClient]():      reflect.TypeFor[api.Client](),
	reflect.TypeFor[api.ClientChange]():   reflect.TypeFor[api.Client](),
	reflect.TypeFor[api.AudienceChange](): reflect.TypeFor[api.Audience](),
	reflect.TypeFor[api.ClientState]():    reflect.TypeFor[api.Client](),
	reflect.TypeFor[api.UserChange]():     reflect.TypeFor[api.User](),
}

// isAnswer reports whether a type that is sent is also an answer, with other rules.
func (s *schemas) isAnswer(t reflect.Type) bool { return t == reflect.TypeFor[api.Audience]() }

func (s *schemas) structure(t reflect.Type, request bool) object {
	properties, required := object{}, []any{}
	s.members(t, request, properties, &required)
	schema := object{"type": "object", "description": s.comments.ofType(t), "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	if request {
		schema["additionalProperties"] = false // an unknown member is refused
	}
	return schema
}

// members adds the fields of t, and those of the structs that it embeds.
func (s *schemas) members(t reflect.Type, request bool, properties object, required *[]any) {
	for n := range t.NumField() {
		f := t.Field(n)
		if f.Anonymous {
			s.members(f.Type, request, properties, required)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		comment := s.comments.ofField(t, f)
		if shown := shownAs[t]; comment == "" && shown != nil {
			if same, ok := shown.FieldByName(f.Name); ok {
				comment = s.comments.ofField(shown, same)
			}
		}
		schema := s.field(f.Type, comment, request)
		must := !strings.Contains(options, "omit")
		if request {
			must = requiredWord.MatchString(comment)
			if !must && f.Type.Kind() != reflect.Pointer {
				schema = nullable(schema)
			}
		}
		if must {
			*required = append(*required, name)
		}
		if comment != "" {
			schema["description"] = comment
		}
		properties[name] = schema
	}
}

func (s *schemas) field(t reflect.Type, comment string, request bool) object {
	list := values(comment)
	if list == nil {
		return s.of(t, request)
	}
	enum := []any{}
	for _, v := range list {
		enum = append(enum, v)
	}
	schema := object{"type": "string", "enum": enum}
	if t.Kind() == reflect.Pointer {
		schema = nullable(schema)
	}
	return schema
}
