package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal"
)

// A dumpResult is the result of reading a file.
type dumpResult struct {
	users   []djangoUser
	refused []string
	broken  error
}

func readDump(format, text string, claims ...string) (d dumpResult) {
	for u, err := range djangoFormats()[format](strings.NewReader(text), claims) {
		switch {
		case err != nil:
			d.broken = err
		case u.refused != nil:
			d.refused = append(d.refused, u.where+": "+u.refused.Error())
		default:
			d.users = append(d.users, u)
		}
	}
	return d
}

const (
	anObject = `{"model": "auth.user", "pk": 7, "fields": {"password": "pbkdf2_sha256$600000$salt$hash=", "last_login": null, "is_superuser": false, "username": "alice", "email": "alice@example.com", "is_staff": true, "is_active": true, "groups": [], "user_permissions": []}}`
	aHeader  = "id,password,last_login,is_superuser,username,email,is_active\n"
)

func TestADjangoDumpIsReadInBothFormats(t *testing.T) {
	alice := djangoUser{where: "entry 1", id: "7", name: "alice", hash: "pbkdf2_sha256$600000$salt$hash=",
		claims: map[string]json.RawMessage{"email": []byte(`"alice@example.com"`), "is_staff": []byte("true")}}
	got := readDump("django-json", "\ufeff[\n"+anObject+",\n"+
		`{"pk": "6fa4", "fields": {"password": "!x", "username": "böb", "email": null, "is_staff": false, "is_active": false}}]`+"\n", "email", "is_staff")
	bob := djangoUser{where: "entry 2", id: "6fa4", name: "böb", disabled: true, claims: map[string]json.RawMessage{"is_staff": []byte("false")}}
	if want := (dumpResult{users: []djangoUser{alice, bob}}); !reflect.DeepEqual(got, want) {
		t.Errorf("JSON: got  %+v\nwant %+v", got, want)
	}
	got = readDump("django-csv", "\ufeff"+aHeader+
		"7,pbkdf2_sha256$600000$salt$hash=,,f,alice,alice@example.com,t\r\n"+
		"8,!,,False,\"o'brien, \"\"bob\"\"\",,0\n", "email")
	alice.where, alice.claims = "line 2", map[string]json.RawMessage{"email": []byte(`"alice@example.com"`)}
	bob = djangoUser{where: "line 3", id: "8", name: `o'brien, "bob"`, disabled: true, claims: map[string]json.RawMessage{"email": []byte(`""`)}}
	if want := (dumpResult{users: []djangoUser{alice, bob}}); !reflect.DeepEqual(got, want) {
		t.Errorf("CSV: got  %+v\nwant %+v", got, want)
	}
	if got := readDump("django-json", "[]"); got.broken != nil || got.users != nil {
		t.Errorf("no users: %+v", got)
	}
}

// TestABadEntryIsRefusedAlone: the entries around it are imported.
func TestABadEntryIsRefusedAlone(t *testing.T) {
	field := func(old, replacement string) string {
		changed := strings.Replace(anObject, old, replacement, 1)
		if changed == anObject {
			t.Fatalf("%s is not in the object", old)
		}
		return changed
	}
	for entry, want := range map[string]string{
		field(`"pk": 7, `, ``):                                      "pk is missing",
		field(`"pk": 7`, `"pk": null`):                              "pk is missing",
		field(`"pk": 7`, `"pk": 7.5`):                               "pk is neither",
		field(`"pk": 7`, `"pk": -7`):                                "pk is neither",
		field(`"pk": 7`, `"pk": ""`):                                "pk is empty",
		field(`"pk": 7`, `"pk": 7, "pk": 8`):                        `member 'pk' is given twice`,
		field(`"pk": 7`, `"pk": 7, "\u0070k": 8`):                   `member 'pk' is given twice`,
		field(`"is_staff"`, `"is_active"`):                          `fields: member 'is_active' is given twice`,
		field(`"is_active": true`, `"is_active": "true"`):           "field is_active has the wrong type",
		field(`"is_active": true`, `"is_active": null`):             "is_active is empty",
		field(`, "is_active": true`, ``):                            "field is_active is missing",
		field(`"username": "alice"`, `"username": 1`):               "field username has the wrong type",
		field(`"username": "alice"`, `"username": ""`):              "username or is_active is empty",
		field(`"username": "alice"`, `"username": "al\ud800ce"`):    "username has an invalid character (U+FFFD)",
		field(`"username": "alice"`, "\"username\": \"al\xffe\""):   "the entry is not valid UTF-8",
		field(`"email"`, `"mail"`):                                  "field email is missing",
		`{"model": "auth.group", "pk": 1, "fields": {"name": "x"}}`: "field username is missing",
		`{"pk": 1}`: "fields: it must be one JSON object",
		`7`:         "the entry must be one JSON object",
	} {
		got := readDump("django-json", "["+entry+","+anObject+"]", "email")
		if len(got.refused) != 1 || !strings.HasPrefix(got.refused[0], "entry 1: ") || !strings.Contains(got.refused[0], want) {
			t.Errorf("%s: refused %q, want %s", entry, got.refused, want)
		}
		if got.broken != nil || len(got.users) != 1 || got.users[0].where != "entry 2" {
			t.Errorf("%s: the next entry is lost: %+v", entry, got)
		}
	}
	for row, want := range map[string]string{
		"8,x,,f,bob,b@example.com":         "6 values, and the header has 7",
		"8,x,,f,bob,b@example.com,t,u":     "8 values, and the header has 7",
		",x,,f,bob,b@example.com,t":        "id or username is empty",
		"8,x,,f,,b@example.com,t":          "id or username is empty",
		"8,x,,f,bob,b@example.com,":        "is_active is neither true nor false",
		"8,x,,f,bob,b@example.com,yes":     "is_active is neither true nor false",
		"8,x,,f,b\xffb,b@example.com,t":    "username is not UTF-8",
		"8,x,,f,bob,b\xff@example.com,t":   "email is not UTF-8",
		"8,x\ufffd,,f,bob,b@example.com,t": "password has an invalid character (U+FFFD)",
	} {
		got := readDump("django-csv", aHeader+row+"\n9,x,,f,carol,,t\n", "email")
		if len(got.refused) != 1 || got.refused[0] != "line 2: "+want {
			t.Errorf("%q: refused %q, want %s", row, got.refused, want)
		}
		if got.broken != nil || len(got.users) != 1 || got.users[0].where != "line 3" {
			t.Errorf("%q: the next entry is lost: %+v", row, got)
		}
	}
}

// TestAFileThatIsNoDumpEndsTheImport, after the entries before the mistake.
func TestAFileThatIsNoDumpEndsTheImport(t *testing.T) {
	for _, tt := range []struct {
		format, text, want string
		users              int
	}{
		{"django-json", "", "byte 0: not a JSON array", 0},
		{"django-json", anObject, "not a JSON array", 0},
		{"django-json", "[" + anObject, "unexpected EOF", 1},
		{"django-json", "[" + anObject + "," + anObject[:50], "unexpected EOF", 1},
		{"django-json", "[" + anObject + " " + anObject + "]", "byte ", 1},
		{"django-json", "[" + anObject + "] []", "unexpected data after the array", 1},
		{"django-json", `["` + strings.Repeat("x", 3*maxEntryBytes) + `"]`, "an entry is longer than", 0},
		{"django-json", "\xff\xfe[\x00", "unexpected EOF", 0},
		{"django-csv", "", "the file is empty", 0},
		{"django-csv", "id,username,password\n", "line 1: column is_active is missing; the header must have id, username, password, is_active", 0},
		{"django-csv", "id,username,password,is_active,id\n", `line 1: column "id" appears twice`, 0},
		{"django-csv", "ID,username,password,is_active\n", "line 1: column id is missing", 0},
		{"django-csv", "id,username,password,is_active\n7,alice,x,t\n8,b\"ob,x,t\n", "line 3", 1},
		{"django-csv", "id,username,password,is_active\n7,alice,x,t\n8,\"bob,x,t\n", "line 3", 1},
		{"django-csv", "id,username,password,is_active\n7,\"" + strings.Repeat("x", 3*maxEntryBytes) + "\",x,t\n", "an entry is longer than", 0},
	} {
		got := readDump(tt.format, tt.text)
		if got.broken == nil || !strings.Contains(got.broken.Error(), tt.want) || len(got.users) != tt.users || got.refused != nil {
			t.Errorf("%s %.60q: %v after %d users, want %s after %d", tt.format, tt.text, got.broken, len(got.users), tt.want, tt.users)
		}
	}
	if got := readDump("django-csv", aHeader, "phone"); got.broken == nil || !strings.Contains(got.broken.Error(), "column phone is missing") {
		t.Errorf("a claim without a column: %+v", got)
	}
}

// repeatedEntries reads as a file of n entries, which never exists as a whole.
type repeatedEntries struct {
	open, entry, end string
	n                int
	rest             string
}

func (r *repeatedEntries) Read(p []byte) (int, error) {
	if r.rest == "" {
		switch {
		case r.open != "":
			r.rest, r.open = r.open, ""
		case r.n > 0:
			r.rest = strings.ReplaceAll(r.entry, "%", fmt.Sprint(r.n))
			r.n--
		case r.end != "":
			r.rest, r.end = r.end, ""
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// TestALongFileIsReadInLittleMemory holds whatever the length of the file is.
func TestALongFileIsReadInLittleMemory(t *testing.T) {
	const users, most = 20_000, 2 << 20
	for format, in := range map[string]*repeatedEntries{
		"django-json": {open: "[" + anObject, entry: "," + strings.Replace(anObject, `"alice"`, `"user %"`, 1), end: "]", n: users},
		"django-csv":  {open: aHeader, entry: "%,pbkdf2_sha256$600000$salt$hash=,,f,user %,,t\n", n: users},
	} {
		runtime.GC()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		count := 0
		for u, err := range djangoFormats()[format](in, nil) {
			if err != nil || u.refused != nil {
				t.Fatalf("%s: %v, %v", format, err, u.refused)
			}
			if count++; count%5000 == 0 {
				runtime.GC() // only what stays in memory counts
				runtime.ReadMemStats(&now)
				if now.HeapAlloc > before.HeapAlloc+most {
					t.Fatalf("%s: %d bytes after %d users", format, now.HeapAlloc-before.HeapAlloc, count)
				}
			}
		}
		if count < users {
			t.Errorf("%s: %d users", format, count)
		}
	}
}

// FuzzDjangoDump: reading any file ends, and every user has an id, a name and clean text. A
// file that json.Unmarshal refuses as a whole is refused here too.
func FuzzDjangoDump(f *testing.F) {
	for _, seed := range []string{"[" + anObject + "]", aHeader + "7,!x,,f,alice,,t\n", "[[]]", "[{\"pk\":1,\"fields\":{}}]", "id,username,password,is_active\n\"1\n", "[1,]", "\ufeff[]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for format := range djangoFormats() {
			got := readDump(format, text, "email")
			for _, u := range got.users {
				if u.id == "" || u.name == "" || checkText(u) != nil || strings.HasPrefix(u.hash, "!") {
					t.Errorf("%s: %+v", format, u)
				}
				for name, value := range u.claims {
					if name != "email" || !json.Valid(value) {
						t.Errorf("%s: claim %s is %q", format, name, value)
					}
				}
			}
			if whole, err := terminal.DecodeText([]byte(text)); format == "django-json" && got.broken == nil && (err != nil || !json.Valid(whole)) {
				t.Errorf("accepted invalid JSON: %q", text)
			}
		}
	})
}
