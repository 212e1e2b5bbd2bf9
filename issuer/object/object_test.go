package object

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
)

type object struct {
	First  string `json:"first"`
	Second string `json:"second,omitempty"`
	Number int64  `json:"number"`
}

func check(t *testing.T, o object) {
	t.Helper()
	want, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := New(0).Text("first", o.First).TextIf("second", o.Second).Number("number", o.Number).End(); !bytes.Equal(got, want) {
		t.Errorf("%+v is %s, want %s", o, got, want)
	}
}

// TestAnObjectIsAsEncodingJSONWritesIt, for every byte, alone and beside others.
func TestAnObjectIsAsEncodingJSONWritesIt(t *testing.T) {
	for c := range 256 {
		text := string([]byte{byte(c)})
		check(t, object{text, "a" + text + "z", int64(c)})
	}
	for _, text := range []string{"", "orders", `a"b\c`, "<script>", "é", "\u2028\u2029", "\xed\xa0\x80", "𝄞", "a\x00b", "\x7f"} {
		check(t, object{text, text, math.MinInt64})
		check(t, object{"a" + text, "", math.MaxInt64})
	}
	if got := string(New(0).Text("a", "<").Plain("b", "c.d-e_f").End()); got != `{"a":"\u003c","b":"c.d-e_f"}` {
		t.Errorf("got %s", got)
	}
	if got := string(New(0).End()); got != "{}" {
		t.Errorf("an object without members is %s", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("read write", "usr_1")
	f.Fuzz(func(t *testing.T, first, second string) { check(t, object{first, second, 0}) })
}
