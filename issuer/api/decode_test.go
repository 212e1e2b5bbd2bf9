package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"keymill/issuer/refusal"
)

type object struct {
	A string   `json:"a"`
	N int      `json:"n"`
	L []string `json:"l"`
	B *bool    `json:"b"`
}

func TestDecodeRefusesWhatTwoProgramsCouldReadInTwoWays(t *testing.T) {
	for body, hint := range map[string]string{
		``:                         "the body must be one JSON object",
		`[]`:                       "the body must be one JSON object",
		`null`:                     "the body must be one JSON object",
		`{"a":"x"`:                 "the body is not well-formed JSON",
		`{"a":x}`:                  "the body is not well-formed JSON",
		`{"a":"x"} {}`:             "the body holds more than one JSON object",
		`{"a":"x","a":"y"}`:        "member 'a' is given twice",
		`{"a":"x","\u0061":"y"}`:   "member 'a' is given twice",
		`{"A":"x"}`:                "unknown member 'A'; known members: a, b, l, n",
		`{"a":7}`:                  "member 'a' has the wrong type or form",
		`{"a":"\ud800"}`:           "member 'a' has the wrong type or form",
		`{"l":["\udc00"]}`:         "member 'l' has the wrong type or form",
		"{\"a\":\"\xff\"}":         "the body is not valid UTF-8",
		`{"` + long + `":1}`:       "unknown member '" + long[:100] + "'; known members: a, b, l, n",
		`{"a":null,"n":1.5}`:       "member 'n' has the wrong type or form",
		`{"a":null,"a":null}`:      "member 'a' is given twice",
		`{"a":"x",}`:               "the body is not well-formed JSON",
		`{"a":"x"}{"a":"y"}`:       "the body holds more than one JSON object",
		`{"a":"x"}` + "\n" + `"z"`: "the body holds more than one JSON object",
	} {
		var got object
		var refused *refusal.Refusal
		err := Decode([]byte(body), &got)
		if !errors.As(err, &refused) || refused.Code != "invalid_request" || refused.Description != hint {
			t.Errorf("%q: got %v, want the hint %q", body, err, hint)
		}
	}
	var none struct{}
	if err := Decode([]byte(`{"a":1}`), &none); err == nil || !strings.Contains(err.Error(), "this path takes none") {
		t.Errorf("a body without known members: got %v", err)
	}
}

var long = strings.Repeat("x", 200)

func TestNullIsAnAbsentMember(t *testing.T) {
	got := object{A: "kept", N: 7}
	if err := Decode([]byte(`{"a":null,"n":null,"l":null,"b":null}`), &got); err != nil || !reflect.DeepEqual(got, object{A: "kept", N: 7}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestClaimsWithAMemberTwiceAreRefusedAtAnyDepth(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"claims":{"a":1,"b":[{"a":1}]}}`:       true,
		`{"claims":null}`:                        true,
		`{"claims":{"a":1,"a":2}}`:               false,
		`{"claims":{"a":1,"\u0061":2}}`:          false,
		`{"claims":{"a":[{"b":{"c":1,"c":1}}]}}`: false,
	} {
		var u NewUser
		var c UserChange
		if err1, err2 := Decode([]byte(body), &u), Decode([]byte(body), &c); (err1 == nil) != ok || (err2 == nil) != ok {
			t.Errorf("%s: got %v and %v, want accepted: %v", body, err1, err2, ok)
		}
	}
}

func TestLoneSurrogatesAreFound(t *testing.T) {
	for raw, want := range map[string]rune{
		`"x"`: 0, `"\ud800"`: 0xd800, `"\ud800x"`: 0xd800, `"\udc00"`: 0xdc00, `"\ud83d\ude00"`: 0, `"\ud83d\ud83d"`: 0xd83d,
		`"\\ud800"`: 0, `"\\\ud800"`: 0xd800, `"\ud83d\n"`: 0xd83d, `"\u0041"`: 0, `"\ud83d\ude00\ude00"`: 0xde00, `"\ud83d\u0041"`: 0xd83d, `""`: 0,
	} {
		if !json.Valid([]byte(raw)) {
			t.Fatalf("%s is not JSON", raw)
		}
		if got := LoneSurrogate([]byte(raw)); got != want {
			t.Errorf("%s: got %x, want %x", raw, got, want)
		}
		var s string
		json.Unmarshal([]byte(raw), &s)
		if replaced := bytes.ContainsRune([]byte(s), utf8.RuneError); replaced != (want != 0) {
			t.Errorf("%s: encoding/json replaces it: %v", raw, replaced)
		}
	}
}

// FuzzDecode: encoding/json reads what Decode accepts in the same way.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":"x","n":1,"l":["y"],"b":true}`, `{"a":"x","a":"y"}`, `{"A":1}`, `{"a":null}`, `{"a":"\ud800"}`, `{"l":[[]]}`, `{} {}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, want object
		if Decode(body, &got) != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %+v, encoding/json %+v, %v", body, got, want, err)
		}
		var names map[string]json.RawMessage
		if err := json.Unmarshal(body, &names); err != nil {
			t.Fatal(err)
		}
		for name := range names {
			if name != "a" && name != "n" && name != "l" && name != "b" {
				t.Fatalf("%q: member %q was accepted", body, name)
			}
		}
	})
}
