package simplejwt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/url"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"
)

func credentials(name, password any) call {
	return post(obtainPath, fields{"username": name, "password": password})
}

// valid returns a login of alice with her password.
func valid() call { return credentials("alice", userNamed("alice").Password) }

// obtainRows vary the user name and the password of a login.
func obtainRows() []row {
	return append(spaceRows(), []row{
		fixed("a password hashed by PBKDF2", valid()),
		fixed("a password hashed by Argon2", credentials("Zoë", userNamed("Zoë").Password)),
		fixed("a password hashed by bcrypt", credentials("Carol", userNamed("Carol").Password)),
		fixed("a wrong password", credentials("alice", "wrong")),
		fixed("an unknown name", credentials("unknown", "wrong")),
		fixed("an inactive user", credentials("dora", userNamed("dora").Password)),
		fixed("an inactive user's wrong password", credentials("dora", "wrong")),
		fixed("an unusable password", credentials("eve", "wrong")),
		fixed("an unusable password, by its marker", credentials("eve", "!")),
		fixed("the name in capitals", credentials("ALICE", userNamed("alice").Password)),
		fixed("the name in small letters", credentials("carol", userNamed("Carol").Password)),
		fixed("the password in capitals", credentials("frida", strings.ToUpper(userNamed("frida").Password))),
		fixed("the name in another normal form", credentials("Zoe\u0308", userNamed("Zoë").Password)),
		fixed("the name in wide letters", credentials("\uff41lice", userNamed("alice").Password)),
		fixed("blanks around the name", credentials(" \talice\u00a0\n", userNamed("alice").Password)),
		fixed("blanks around the password", credentials("alice", "  "+userNamed("alice").Password+"\t")),
		fixed("a blank inside the name", credentials("al ice", userNamed("alice").Password)),

		fixed("no name", post(obtainPath, fields{"password": "x"})),
		fixed("no password", post(obtainPath, fields{"username": "alice"})),
		fixed("an empty name", credentials("", "x")),
		fixed("an empty password", credentials("alice", "")),
		fixed("both empty", credentials("", "")),
		fixed("blanks as a name", credentials("   ", "x")),
		fixed("blanks as a password", credentials("alice", "\u2003 ")),
		fixed("null as a name", credentials(nil, "x")),
		fixed("null as a password", credentials("alice", nil)),
		fixed("numbers as name and password", credentials(5550100, 20071969)),
		fixed("a number that is no user's name", credentials(404, "x")),
		fixed("a fraction as a password", credentials("hedy", 1.5)),
		fixed("true as a name", credentials(true, "x")),
		fixed("false as a password", credentials("alice", false)),
		fixed("a list as a name", credentials([]string{"alice"}, "x")),
		fixed("a list as a password", credentials("alice", []string{"x"})),
		fixed("an object as a name", credentials(fields{"a": 1}, "x")),
		fixed("each field wrong in its own way", credentials(nil, []int{})),

		fixed("unknown members", post(obtainPath, fields{
			"username": "alice", "password": userNamed("alice").Password, "remember": true, "scope": []string{"x"}, "next": nil})),
		fixed("a member twice, the last one good", postBytes(obtainPath, jsonType,
			`{"username":"unknown","username":"alice","password":"`+userNamed("alice").Password+`"}`)),
		fixed("a member twice, the last one bad", postBytes(obtainPath, jsonType,
			`{"username":"alice","password":"`+userNamed("alice").Password+`","username":"unknown"}`)),
		fixed("an address instead of a name", post(obtainPath, fields{"email": "alice@shop.example", "password": "x"})),

		fixed("a name of 150 characters", credentials(strings.Repeat("a", 150), "x")),
		fixed("a name of 151 characters", credentials(strings.Repeat("a", 151), "x")),
		fixed("a name of 10,000 characters", credentials(strings.Repeat("a", 10_000), "x")),
		fixed("a password of 4 KiB", credentials("hedy", strings.Repeat("x", 4096))),
		fixed("a password of more than 4 KiB", credentials("hedy", strings.Repeat("x", 4097))),
		fixed("a body of a megabyte", credentials("hedy", strings.Repeat("x", 1_000_000))),
		fixed("a null byte in the name", credentials("ali\x00ce", "x")),
		fixed("a null byte in the password", credentials("hedy", "a\x00b")),
		fixed("a control character in the name", credentials("ali\x01ce", "x")),
		fixed("half a surrogate as a name", postBytes(obtainPath, jsonType, `{"username":"\ud800","password":"x"}`)),
		fixed("half a surrogate as a password", postBytes(obtainPath, jsonType, `{"username":"hedy","password":"\udfff"}`)),
		fixed("a whole surrogate pair", postBytes(obtainPath, jsonType, `{"username":"\ud83d\ude00","password":"x"}`)),

		{"the eleventh wrong password in a row", func(t *testing.T, s *side) call {
			wrong := credentials("gus", "wrong").with("X-Forwarded-For", "192.0.2.99")
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { send(t.Context(), s.url, wrong) })
			}
			wg.Wait()
			return wrong
		}},
	}...)
}

// spaceRows surround the name and the password with white space, and with characters that Python does
// not count as white space.
func spaceRows() []row {
	rows := []row{
		fixed("a password that begins and ends with white space", credentials("kim", userNamed("kim").Password)),
		fixed("a password without its white space", credentials("kim", strings.TrimSpace(userNamed("kim").Password))),
		fixed("a password with more white space than its own", credentials("kim", userNamed("kim").Password+" ")),
		fixed("white space inside a password", credentials("alice", strings.ReplaceAll(userNamed("alice").Password, " ", "\u00a0"))),
		fixed("a form with white space around the name and the password", postBytes(obtainPath, "application/x-www-form-urlencoded", url.Values{
			"username": {"\u3000alice\r\n"}, "password": {"\x1f" + userNamed("alice").Password + "\t"}}.Encode())),
	}
	for _, space := range "\n\x1c\x1f\u0085\u00a0\u2003\u2028\u3000\u180e\u200b" {
		around := func(s string) string { return string(space) + s + string(space) }
		rows = append(rows,
			fixed(fmt.Sprintf("%U around the name", space), credentials(around("alice"), userNamed("alice").Password)),
			fixed(fmt.Sprintf("%U around the password", space), credentials("alice", around(userNamed("alice").Password))))
	}
	return rows
}

// envelopeRows vary the media type, the query and the headers of a valid and of a wrong login.
func envelopeRows() []row {
	wrong := credentials("frida", "wrong")
	text := string(valid().body)
	form := url.Values{"username": {"alice"}, "password": {userNamed("alice").Password}}
	parts, partsType := multipartOf("username", "alice", "password", userNamed("alice").Password)
	typed := func(mediaType string) call { return postBytes(obtainPath, mediaType, text) }
	asked := func(suffix string) call { c := valid(); c.path += suffix; return c }
	return []row{
		fixed("JSON with a charset", typed("application/json; charset=utf-8")),
		fixed("JSON with its charset in quotes", typed(`application/json;charset="UTF-8"`)),
		fixed("JSON in capitals", typed("Application/JSON")),
		fixed("JSON with an unknown charset", typed("application/json; charset=nonsense")),
		fixed("JSON with another parameter", typed("application/json; version=1")),
		fixed("UTF-8 that claims to be UTF-16", typed("application/json; charset=utf-16")),
		fixed("UTF-16", postBytes(obtainPath, "application/json; charset=utf-16", inUTF16(text))),
		fixed("no media type", typed("")),
		fixed("a media type like JSON's", typed("application/vnd.api+json")),
		fixed("text/json", typed("text/json")),
		fixed("XML", postBytes(obtainPath, "application/xml", "<a/>")),
		fixed("an invalid media type", typed("nonsense")),
		fixed("a form", postBytes(obtainPath, "application/x-www-form-urlencoded", form.Encode())),
		fixed("a form with a wrong password", postBytes(obtainPath, "application/x-www-form-urlencoded", "username=frida&password=wrong")),
		fixed("an empty form", postBytes(obtainPath, "application/x-www-form-urlencoded", "")),
		fixed("JSON that claims to be a form", typed("application/x-www-form-urlencoded")),
		fixed("a form in parts", postBytes(obtainPath, partsType, parts)),
		fixed("a form in parts without a boundary", postBytes(obtainPath, "multipart/form-data", parts)),
		fixed("a form in parts that is cut off", postBytes(obtainPath, partsType, parts[:len(parts)/2])),

		fixed("Accept: application/json", valid().with("Accept", jsonType)),
		fixed("Accept: anything", valid().with("Accept", "*/*")),
		fixed("Accept: what axios sends", valid().with("Accept", "application/json, text/plain, */*")),
		fixed("Accept: what a browser sends", valid().with("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")),
		fixed("Accept: HTML", wrong.with("Accept", "text/html")),
		fixed("Accept: XML", valid().with("Accept", "application/xml")),
		fixed("Accept: nonsense", valid().with("Accept", "nonsense")),
		fixed("another format in the query", asked("?format=xml")),
		fixed("an unrelated query", asked("?next=%2F")),
		fixed("the credentials in the query", call{method: "POST", path: obtainPath + "?" + form.Encode()}),
		fixed("GET with the credentials in the query", call{method: "GET", path: obtainPath + "?" + form.Encode()}),

		fixed("Authorization: garbage", valid().with("Authorization", "garbage")),
		fixed("Authorization: a bearer of garbage", valid().with("Authorization", "Bearer garbage")),
		fixed("Authorization: three words", valid().with("Authorization", "Bearer a b")),
		fixed("Authorization: Basic", valid().with("Authorization", "Basic d2ViOng=")),
		fixed("a wrong password beside a bearer of garbage", wrong.with("Authorization", "Bearer garbage")),
		{"a wrong password beside a valid bearer", func(t *testing.T, s *side) call {
			return wrong.with("Authorization", "Bearer "+s.kept.Access)
		}},
		fixed("cookies of a session", valid().with("Cookie", "sessionid=x; csrftoken=y")),
		fixed("an origin that the client lists", valid().with("Origin", origin)),
		fixed("an origin that no client lists", valid().with("Origin", "https://evil.example")),
		fixed("another language", credentials("unknown", "x").with("Accept-Language", "de")),
		fixed("a method override", valid().with("X-HTTP-Method-Override", "GET")),
		fixed("a path below", post(obtainPath+"obtain/", fields{})),
	}
}

func multipartOf(pairs ...string) (body, mediaType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		w.WriteField(pairs[i], pairs[i+1])
	}
	w.Close()
	return b.String(), w.FormDataContentType()
}

func inUTF16(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// TestRowsSendWhatTheyAreNamed checks the inputs that an editor or an encoder could change.
func TestRowsSendWhatTheyAreNamed(t *testing.T) {
	var v struct{ Username, Password string }
	if err := json.Unmarshal(valid().body, &v); err != nil || v.Username != "alice" || v.Password == "" {
		t.Errorf("the valid login is %s (%v)", valid().body, err)
	}
	if s := inUTF16("{}"); s != "\xff\xfe{\x00}\x00" {
		t.Errorf("UTF-16 is % x", s)
	}
	if zoë := "Zoë"; len(zoë) != 4 || zoë == "Zoe\u0308" {
		t.Error("the two normal forms are equal: an editor has changed this file")
	}
}
