package userimport

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/cmd/keymill/internal/django"
	"keymill/cmd/keymill/internal/terminal"
)

// newImportServer answers about each user what answer returns. It fails the test if a request
// exceeds the limits of the server.
func newImportServer(t *testing.T, answer func(id string) (code, why string)) *adminapi.Client {
	return adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		var body struct {
			Users []struct {
				ID   string `json:"user_id"`
				Name string `json:"username"`
			} `json:"users"`
		}
		if err != nil || json.Unmarshal(raw, &body) != nil {
			t.Errorf("%v: %.100s", err, raw)
		}
		if len(body.Users) == 0 || len(body.Users) > 50 || len(raw) > 64<<10 {
			t.Errorf("%d users in %d bytes", len(body.Users), len(raw))
		}
		results := []map[string]string{}
		for _, u := range body.Users {
			code, why := answer(u.ID)
			results = append(results, map[string]string{"user_id": u.ID, "username": u.Name, "error": code, "error_description": why})
		}
		json.NewEncoder(w).Encode(map[string]any{"results": results})
	}))
}

// TestAnImportStaysWithinTheLimitsOfARequest for any number and size of users.
func TestAnImportStaysWithinTheLimitsOfARequest(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": 5000, "too large": 50_000} {
		var file, errs strings.Builder
		file.WriteString("id,username,password,is_active,bio\n")
		const users = 230
		for n := range users {
			fmt.Fprintf(&file, "%d,user %d,,t,%s\n", n, n, strings.Repeat("x", size))
		}
		r := &Run{Errs: &errs, server: newImportServer(t, func(string) (string, string) { return "", "" })}
		if err := r.each(t.Context(), django.Formats()["django-csv"](strings.NewReader(file.String()), django.Model{UsernameField: "username", Claims: []string{"bio"}})); err != nil {
			t.Fatal(err)
		}
		want := sum{Imported: users}
		if size == 50_000 {
			want = sum{Refused: users}
		}
		if r.sum.Imported != want.Imported || r.sum.Refused != want.Refused || strings.Count(errs.String(), "\n") != want.Refused {
			t.Errorf("%s: %+v\n%.300s", name, r.sum, errs.String())
		}
	}
}

// TestAnImportCountsUsersWithoutAPassword: those whose hash was left out, not those who had none.
func TestAnImportCountsUsersWithoutAPassword(t *testing.T) {
	for _, flag := range []bool{false, true} {
		r := &Run{Errs: io.Discard, WithoutPassword: flag, server: adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var body struct {
				Users []map[string]any `json:"users"`
			}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			results := []map[string]any{}
			for _, u := range body.Users {
				scheme := "none"
				if u["hash"] == "good" {
					scheme = "argon2id"
				}
				if u["without_password"] != nil != flag {
					t.Errorf("sent %v", u)
				}
				results = append(results, map[string]any{"user_id": u["user_id"], "password_scheme": scheme, "error": ""})
			}
			json.NewEncoder(w).Encode(map[string]any{"results": results})
		}))}
		file := "id,username,password,is_active\n1,a,good,t\n2,b,md5$x$y,t\n3,c,,t\n4,d,!x,t\n5,e,bad,t\n"
		if err := r.each(t.Context(), django.Formats()["django-csv"](strings.NewReader(file), django.Model{UsernameField: "username"})); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := r.print(&out); err != nil {
			t.Fatal(err)
		}
		const want = "5 imported, 0 already existed, 0 refused\n2 of those imported without a password, because their hashes are refused\n"
		if out.String() != want || r.sum.Without != 2 {
			t.Errorf("%+v, printed %q", r.sum, out.String())
		}
	}
}

// TestAnImportedNameCannotForgeALine, because the file comes from another system.
//
// R104.
func TestAnImportedNameCannotForgeALine(t *testing.T) {
	var errs strings.Builder
	r := &Run{Errs: &errs, server: newImportServer(t, func(id string) (string, string) {
		return map[string]string{"1": "already_exists", "2": "conflict", "3": "invalid_request"}[id], "why\nkeymill: forged \x1b[2J"
	})}
	file := "id,username,password,is_active\n"
	for n := range 4 {
		file += fmt.Sprintf("%d,\"user %d\nkeymill: forged\x1b[31m\",,t\n", n+1, n+1)
	}
	if err := r.each(t.Context(), django.Formats()["django-csv"](strings.NewReader(file), django.Model{UsernameField: "username"})); err != nil {
		t.Fatal(err)
	}
	if got := errs.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 3 || strings.Count(got, "\nkeymill: forged") != 0 {
		t.Errorf("printed %q", got)
	}
	if r.sum.Existing != 1 || r.sum.Refused != 2 || r.sum.Imported != 1 {
		t.Errorf("%+v", r.sum)
	}
}

// TestAnImportThatFailsSaysHowToContinue: a part of the batch may be imported.
func TestAnImportThatFailsSaysHowToContinue(t *testing.T) {
	calls := 0
	r := &Run{Errs: io.Discard, server: adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.WriteHeader(503)
		w.Write([]byte(`{"code":"unavailable","detail":"the disk is full"}`))
	}))}
	file := "id,username,password,is_active\n" + strings.Repeat("7,alice,,t\n", 120)
	err := r.each(t.Context(), django.Formats()["django-csv"](strings.NewReader(file), django.Model{UsernameField: "username"}))
	var shown strings.Builder
	if code := terminal.Report(&shown, err); code != 1 || calls != 1 {
		t.Errorf("code %d after %d calls", code, calls)
	}
	if got := shown.String(); !strings.HasPrefix(got, "keymill: line 2 to line 51: the disk is full\n  hint: run the command again with --skip-existing") {
		t.Errorf("printed %q", got)
	}
}
