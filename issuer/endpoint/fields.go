package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// The texts of Django REST framework about the fields of a request.
const (
	fieldRequired = "This field is required."
	fieldNull     = "This field may not be null."
	fieldBlank    = "This field may not be blank."
	fieldType     = "Not a valid string."
	fieldNUL      = "Null characters are not allowed."
	noField       = "non_field_errors" // for problems of the whole request
)

// A field is the text of a field, or the problem with it. typed is the text with the white space
// that was around it.
type field struct{ text, typed, problem string }

// fieldErrors lists the wrong fields, in the order in which the serializer names them.
type fieldErrors []fieldError

type fieldError struct{ name, problem string }

var errFields = refusal.New("invalid_request", "fields are missing or wrong")

func (e fieldErrors) Error() string {
	var b strings.Builder
	for _, f := range e {
		fmt.Fprintf(&b, "%s: %s ", f.name, f.problem)
	}
	return strings.TrimSpace(b.String())
}

func (e fieldErrors) Unwrap() error { return errFields }

// MarshalJSON writes an object that keeps the order. Names need no escaping.
func (e fieldErrors) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for n, f := range e {
		problem, err := json.Marshal([]string{f.problem})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `%c"%s":%s`, "{,"[min(n, 1)], f.name, problem)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// readFields returns the named fields as REST framework reads them: from JSON, a form or a
// multipart form, without surrounding white space, numbers as they are written. It is
// stricter where two parsers could read different values: a field that is given twice and
// invalid UTF-8 are refused.
func readFields(w http.ResponseWriter, r *http.Request, names ...string) ([]field, error) {
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return nil, err
	}
	body, err := readBody(w, r, maxFormBytes)
	if err != nil {
		return nil, err
	}
	given := map[string]field{}
	if len(body) > 0 { // of any media type
		if given, err = parseFields(r.Header, body); err != nil {
			return nil, err
		}
	}
	var fields []field
	var wrong fieldErrors
	for _, name := range names {
		f, ok := given[name]
		if !ok {
			f.problem = fieldRequired
		}
		f = f.clean()
		fields = append(fields, f)
		if f.problem != "" {
			wrong = append(wrong, fieldError{name, f.problem})
		}
	}
	if wrong != nil {
		return nil, wrong
	}
	return fields, nil
}

func parseFields(h http.Header, body []byte) (map[string]field, error) {
	if len(h["Content-Type"]) > 1 {
		return nil, errMediaType("the request has more than one Content-Type")
	}
	if isCoded(h) {
		return nil, errMediaType("the body must have no Content-Encoding")
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		media = "" // no parser takes it
	}
	switch media {
	case "application/json":
		return jsonFields(body)
	case formType:
		return formFields(body)
	case "multipart/form-data":
		return multipartFields(body, params["boundary"])
	}
	return nil, errMediaType("the body must be application/json, " + formType + " or multipart/form-data")
}

func jsonFields(body []byte) (map[string]field, error) {
	if utf8.Valid(body) && json.Valid(body) {
		if kind := pythonType(bytes.TrimLeft(body, " \t\r\n")); kind == "NoneType" {
			return nil, fieldErrors{{noField, "No data provided"}}
		} else if kind != "dict" {
			return nil, fieldErrors{{noField, fmt.Sprintf("Invalid data. Expected a dictionary, but got %s.", kind)}}
		}
	}
	given := map[string]field{}
	err := api.EachMember(body, func(name string, raw json.RawMessage) error {
		given[name] = jsonField(raw)
		return nil
	})
	var refused *refusal.Refusal
	if errors.As(err, &refused) {
		return nil, refusal.New("invalid_request", "JSON parse error - %s", refusal.Quoted(refused.Description))
	}
	return given, err
}

// pythonType returns the type that Python reads a well-formed JSON value as.
func pythonType(raw []byte) string {
	switch raw[0] {
	case '{':
		return "dict"
	case '[':
		return "list"
	case '"':
		return "str"
	case 't', 'f':
		return "bool"
	case 'n':
		return "NoneType"
	}
	if bytes.ContainsAny(raw, ".eE") {
		return "float"
	}
	return "int"
}

func jsonField(raw json.RawMessage) field {
	switch pythonType(raw) {
	case "NoneType":
		return field{problem: fieldNull}
	case "dict", "list", "bool":
		return field{problem: fieldType}
	case "int", "float":
		return field{text: string(raw)}
	}
	if half := api.LoneSurrogate(raw); half != 0 {
		return field{problem: fmt.Sprintf("Surrogate characters are not allowed: U+%X.", half)}
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return field{problem: fieldType}
	}
	return field{text: text}
}

func formFields(body []byte) (map[string]field, error) {
	ps, err := parseForm(nil, string(body))
	if err != nil {
		return nil, err
	}
	given := map[string]field{}
	for _, p := range ps {
		if !utf8.ValidString(p.name) || !utf8.ValidString(p.value) {
			return nil, errForm
		}
		given[p.name] = field{text: p.value}
	}
	return given, nil
}

func multipartFields(body []byte, boundary string) (map[string]field, error) {
	given := map[string]field{}
	if boundary == "" {
		return nil, refusal.New("invalid_request", "Multipart form parse error - Invalid boundary in multipart: None")
	}
	for form := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		part, err := form.NextPart()
		if err == io.EOF {
			return given, nil
		} else if err != nil || len(given) == maxParameters {
			return nil, errMultipart
		}
		text, err := io.ReadAll(part) // at most as long as body
		_, twice := given[part.FormName()]
		if err != nil || twice || !utf8.Valid(text) {
			return nil, errMultipart
		}
		given[part.FormName()] = field{text: string(text)}
		if part.FileName() != "" {
			given[part.FormName()] = field{problem: fieldType}
		}
	}
}

var errMultipart = refusal.New("invalid_request", "Multipart form parse error - it is malformed, too long or has a field twice")

// clean does what a CharField does.
func (f field) clean() field {
	f.typed, f.text = f.text, trimSpace(f.text)
	switch {
	case f.problem != "":
		f.text, f.typed = "", ""
	case f.text == "":
		f.problem = fieldBlank
	case strings.ContainsRune(f.text, 0):
		f.problem = fieldNUL
	}
	return f
}

// trimSpace removes the white space at both ends of s that Python's str.strip removes. So
// REST framework does it with every field, and Django's forms with a user name.
func trimSpace(s string) string {
	return strings.TrimFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f // white space in Python, but not in Go
	})
}
