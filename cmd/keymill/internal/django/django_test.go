package django

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
	users   []User
	refused []string
	broken  error
}

func readDump(format, text string, claims ...string) dumpResult {
	return readModel(format, text, Model{"username", claims})
}

func readModel(format, text string, model Model) (d dumpResult) {
	for u, err := range Formats()[format](strings.NewReader(text), model) {
		switch {
		case err != nil:
			d.broken = err
		case u.Refused != nil:
			d.refused = append(d.refused, u.Where+": "+u.Refused.Error())
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
	alice := User{Where: "entry 1", ID: "7", Name: "alice", Hash: "pbkdf2_sha256$600000$salt$hash=",
		Claims: map[string]json.RawMessage{"email": []byte(`"alice@example.com"`), "is_staff": []byte("true")}}
	got := readDump("django-json", "\ufeff[\n"+anObject+",\n"+
		`{"pk": "6fa4", "fields": {"password": "!x", "username": "böb", "email": null, "is_staff": false, "is_active": false}}]`+"\n", "email", "is_staff")
	bob := User{Where: "entry 2", ID: "6fa4", Name: "böb", Disabled: true, Claims: map[string]json.RawMessage{"is_staff": []byte("false")}}
	if want := (dumpResult{users: []User{alice, bob}}); !reflect.DeepEqual(got, want) {
		t.Errorf("JSON: got  %+v\nwant %+v", got, want)
	}
	got = readDump("django-csv", "\ufeff"+aHeader+
		"7,pbkdf2_sha256$600000$salt$hash=,,f,alice,alice@example.com,t\r\n"+
		"8,!,,False,\"o'brien, \"\"bob\"\"\",,0\n", "email")
	alice.Where, alice.Claims = "line 2", map[string]json.RawMessage{"email": []byte(`"alice@example.com"`)}
	bob = User{Where: "line 3", ID: "8", Name: `o'brien, "bob"`, Disabled: true, Claims: map[string]json.RawMessage{"email": []byte(`""`)}}
	if want := (dumpResult{users: []User{alice, bob}}); !reflect.DeepEqual(got, want) {
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
		field(`"username": "alice"`, `"username": 1.5`):             "field username has the wrong type",
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
		if got.broken != nil || len(got.users) != 1 || got.users[0].Where != "entry 2" {
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
		if got.broken != nil || len(got.users) != 1 || got.users[0].Where != "line 3" {
			t.Errorf("%q: the next entry is lost: %+v", row, got)
		}
	}
}

// TestAUserModelOfAProjectIsRead: the name is in any field, and a model need not have is_active.
func TestAUserModelOfAProjectIsRead(t *testing.T) {
	entry := func(pk, fields string) string {
		return `[{"model": "accounts.person", "pk": ` + pk + `, "fields": {"password": "!", ` + fields + `}}]`
	}
	const active, header = `"is_active": true`, "id,password,email,is_active\n"
	for _, tt := range []struct {
		field, format, text string
		want                User // its place is not compared
	}{
		{"email", "django-json", entry("7", `"email": "a@b.example", `+active), User{ID: "7", Name: "a@b.example"}},
		{"email", "django-json", entry(`"6fa4"`, `"username": "no", "email": "a@b.example", "is_active": false`), User{ID: "6fa4", Name: "a@b.example", Disabled: true}},
		{"email", "django-json", entry("7", `"email": "a@b.example"`), User{ID: "7", Name: "a@b.example"}},
		{"phone", "django-json", entry("7", `"phone": 5550100, `+active), User{ID: "7", Name: "5550100"}},
		{"phone", "django-json", entry("7", `"phone": "0049 30 5550100", `+active), User{ID: "7", Name: "0049 30 5550100"}},
		{"pk", "django-json", entry(`"a@b.example"`, active), User{ID: "a@b.example", Name: "a@b.example"}},
		{"pk", "django-json", entry("7", active), User{ID: "7", Name: "7"}},
		{"email", "django-csv", header + "7,!,a@b.example,t\n", User{ID: "7", Name: "a@b.example"}},
		{"email", "django-csv", "username," + header + "no,7,!,a@b.example,f\n", User{ID: "7", Name: "a@b.example", Disabled: true}},
		{"pk", "django-csv", header + "7,!,a@b.example,t\n", User{ID: "7", Name: "7"}},
	} {
		got := readModel(tt.format, tt.text, Model{UsernameField: tt.field})
		if len(got.users) == 1 {
			tt.want.Where = got.users[0].Where
		}
		if want := (dumpResult{users: []User{tt.want}}); !reflect.DeepEqual(got, want) {
			t.Errorf("--username-field %s of %s:\ngot  %+v\nwant %+v", tt.field, tt.text, got, want)
		}
	}
	for _, tt := range []struct{ field, format, text, want string }{
		{"username", "django-json", entry("7", `"email": "a@b.example"`), "field username is missing; if users log in with another field, name it with --username-field"},
		{"email", "django-json", entry(`"a@b.example"`, active), "field email is missing; if it is the primary key, use --username-field pk"},
		{"email", "django-json", entry("7", `"email": null, `+active), "email or is_active is empty"},
		{"email", "django-json", entry("7", `"email": "", `+active), "email or is_active is empty"},
		{"email", "django-json", entry("7", `"email": ["a"], `+active), "field email has the wrong type"},
		{"email", "django-json", entry("7", `"email": "a\ufffd", `+active), "email has an invalid character (U+FFFD)"},
		{"email", "django-json", entry("7", `"email": "a", "is_active": null`), "email or is_active is empty"},
		{"email", "django-json", strings.Replace(entry("7", `"email": "a"`), "accounts.person", "auth.user", 1), "field is_active is missing"},
		{"email", "django-json", strings.Replace(entry("7", `"email": "a"`), `"model": "accounts.person", `, "", 1), "field is_active is missing"},
		{"email", "django-csv", header + "7,!,,t\n", "id or email is empty"},
		{"email", "django-csv", header + "7,!,a\xff,t\n", "email is not UTF-8"},
	} {
		got := readModel(tt.format, tt.text, Model{UsernameField: tt.field})
		if len(got.refused) != 1 || !strings.HasSuffix(got.refused[0], ": "+tt.want) || got.users != nil {
			t.Errorf("--username-field %s of %s: got %+v, want %s", tt.field, tt.text, got, tt.want)
		}
	}
	if got := readModel("django-csv", aHeader, Model{UsernameField: "phone"}); got.broken == nil || !strings.Contains(got.broken.Error(), "column phone is missing; the header must have id, phone, password, is_active") {
		t.Errorf("a column that is missing: %+v", got)
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
		for u, err := range Formats()[format](in, Model{UsernameField: "username"}) {
			if err != nil || u.Refused != nil {
				t.Fatalf("%s: %v, %v", format, err, u.Refused)
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
		for format := range Formats() {
			got := readDump(format, text, "email")
			for _, u := range got.users {
				if u.ID == "" || u.Name == "" || checkText(u, Model{UsernameField: "username"}) != nil || strings.HasPrefix(u.Hash, "!") {
					t.Errorf("%s: %+v", format, u)
				}
				for name, value := range u.Claims {
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
