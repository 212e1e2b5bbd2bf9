package openapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write the document")

// document is where the server has it from.
const document = module + "/issuer/endpoint/admin/openapi.json"

func generate(t *testing.T) []byte {
	t.Helper()
	b, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheDocumentIsUpToDate(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(document); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code says; run go test -run TestTheDocumentIsUpToDate -update here (%v)", document, err)
	}
}

// TestTheDocumentIsValid checks the document against the schema that the OpenAPI Initiative publishes for
// OpenAPI 3.1, and its schemas against that of JSON Schema 2020-12, which 3.1 has for them.
func TestTheDocumentIsValid(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/oas-3.1-schema-2022-10-07.json")
	if err != nil {
		t.Fatal(err)
	}
	valid := func(document []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
		if err != nil {
			return err
		}
		if err := schema.Validate(v); err != nil {
			return err
		}
		_, err = NewContract(document)
		return err
	}
	raw := generate(t)
	if err := valid(raw); err != nil {
		t.Error(err)
	}
	for from, to := range map[string]string{
		`"in": "query"`: `"in": "queue"`, `"openapi": "3.1.0"`: `"openapi": "3.0.0"`,
		`"type": "boolean"`: `"type": "bool"`, `#/components/schemas/Key"`: `#/components/schemas/Kay"`,
	} {
		broken := bytes.Replace(raw, []byte(from), []byte(to), 1)
		if bytes.Equal(broken, raw) || valid(broken) == nil {
			t.Errorf("with %s the document is valid", to)
		}
	}
}

func TestOperationsHaveIDsOfTheirOwn(t *testing.T) {
	var d struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(generate(t), &d); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for path, methods := range d.Paths {
		for method, o := range methods {
			if o.OperationID == "" || seen[o.OperationID] {
				t.Errorf("%s %s has the id %q", method, path, o.OperationID)
			}
			seen[o.OperationID] = true
		}
	}
}

// TestSchemasFollowTheCode looks at one member of each kind.
func TestSchemasFollowTheCode(t *testing.T) {
	var d struct {
		Components struct {
			Schemas map[string]struct {
				Description string
				Required    []string
				Properties  map[string]map[string]any
			}
		}
	}
	if err := json.Unmarshal(generate(t), &d); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ schema, member, want string }{
		{"Key", "publish", `{"description":"the key joins the key set","format":"date-time","type":["string","null"]}`},
		{"Key", "stage", `{"description":"\"reserve\", \"spare\", \"active\", \"retiring\" or \"gone\"","enum":["reserve","spare","active","retiring","gone"],"type":"string"}`},
		{"Audience", "alg", `{"description":"signs its tokens; cannot change; required in a request","type":"string"}`},
		{"AudienceRequest", "profile", `{"description":"what verifies the tokens: \"rfc9068\", which is the default, \"simplejwt\" or \"spring\"","enum":["rfc9068","simplejwt","spring",null],"type":["string","null"]}`},
		{"AudienceChange", "type", `{"description":"typ in the header of the tokens: \"at+jwt\" or \"JWT\"","enum":["at+jwt","JWT",null],"type":["string","null"]}`},
		{"SetPasswordRequest", "password", `{"description":"required","format":"password","type":"string","writeOnly":true}`},
		{"Client", "client_secret", `{"description":"only in the answers that make one; it is not shown again","format":"password","readOnly":true,"type":"string"}`},
	} {
		if got, _ := json.Marshal(d.Components.Schemas[tt.schema].Properties[tt.member]); string(got) != tt.want {
			t.Errorf("%s.%s is\n%s, want\n%s", tt.schema, tt.member, got, tt.want)
		}
	}
	if s := d.Components.Schemas["UserDetails"]; s.Properties["user_id"] == nil || len(s.Required) < 10 {
		t.Errorf("a type that embeds another has members %v", s.Required)
	}
	for name, s := range d.Components.Schemas {
		if s.Description == "" {
			t.Errorf("%s has no description", name)
		}
	}
}
