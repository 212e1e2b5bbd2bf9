package claimflag

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"keymill/issuer/api"
)

// TestAClaimIsJSONOrElseAString. A client has no objects, so braces make a text there.
func TestAClaimIsJSONOrElseAString(t *testing.T) {
	words := []string{"role=admin", "level=3", "ok=true", "no=null", `teams=["a","b"]`, "eq=a=b", "empty=", `quoted="3"`, "html=<b>", `object={"a":1}`, "half=[1", "big=1e400", ""}
	want := api.Claims{
		"role": []byte(`"admin"`), "level": []byte("3"), "ok": []byte("true"), "no": []byte("null"), "teams": []byte(`["a","b"]`),
		"eq": []byte(`"a=b"`), "empty": []byte(`""`), "quoted": []byte(`"3"`), "html": []byte(`"<b>"`), "object": []byte(`{"a":1}`),
		"half": []byte(`"[1"`), "big": []byte("1e400"),
	}
	if got, err := Parse(words); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of a user: %v: got %s", err, got)
	}
	want["object"] = []byte(`"{\"a\":1}"`)
	if got, err := ParseFlat(words); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of a client: %v: got %s", err, got)
	}
	for _, bad := range [][]string{{"role"}, {"=x"}, {"a=1", "a=2"}, {"a=\xff"}} {
		if _, err := ParseFlat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestAFileOfClaimsIsReadStrictly: a mistyped member would remove the claims that it was meant to set.
func TestAFileOfClaimsIsReadStrictly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "claims.json")
	for text, want := range map[string]string{ // "" means that it is read
		`{"claims":{"policy":"readwrite","n":[1,2]},"map":{"groups":"teams"}}`: "",
		`{}`: "", `{"map":{}}`: "", `{"claims":{}}`: "",
		``:                          "EOF",
		`{"claim":{"a":1}}`:         "unknown field",
		`{"claims":{"a":1,"a":2}}`:  "a",
		`{"map":{"a":"b","a":"c"}}`: "a",
		`{"map":{"a":1}}`:           "string",
		`{"claims":null}`:           "not null",
		`{"map":null}`:              "not null",
		`{"claims":[]}`:             "array",
		`{} {}`:                     "more after",
		`[]`:                        "array",
		`{"claims":{"a":"` + strings.Repeat("x", maxFileBytes) + `"}}`: "65536",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Read(path)
		if want == "" && (err != nil || f.Claims == nil || f.Map == nil) {
			t.Errorf("%s: %+v, %v", text, f, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%.60s: %v, want an error with %q", text, err, want)
		}
	}
	if _, err := Read(path + ".missing"); err == nil || !strings.Contains(err.Error(), "claims.json.missing") {
		t.Errorf("a file that is missing: %v", err)
	}
}
