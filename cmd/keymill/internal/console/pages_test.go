package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/issuer/api"
	"keymill/storage/audit"
)

// paths are all pages, with parameters that have text.
func paths(text string) []string {
	r := &request{}
	return []string{
		"", "keys", "verifiers", "clients", "audiences", "users", "nodes", "audit", "settings",
		r.to("client", "id", text), r.to("user", "user", text), r.to("sessions", "user", text, "client", text),
		r.to("audit", "user", text, "client", text, "action", text, "since", "2h", "live", "1"),
		r.to("audit", "since", text), r.to("audit", "before", text), r.to("clients", "after", text),
	}
}

// An admin answers like a server that has text in every field. A real server refuses such names; a damaged one,
// or another program on the socket, does not.
type admin struct{ text string }

func (a admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now, text, list := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), a.text, []string{a.text, a.text, a.text, a.text, a.text}
	session := api.Session{ID: text, User: text, Client: text, State: "revoked", Reason: text, Created: now, LastUsed: now, Expires: now, Ended: &now, Shared: true}
	live := session
	live.ID, live.State = text+"0", "live"
	client := api.Client{ID: text, Grants: list, Audiences: list, Scopes: list, Origins: list, Introspect: list, Grace: text, Idle: text, Absolute: text, Created: now}
	user := api.User{ID: text, Name: text, Scheme: text, Created: now, LastLogin: &now}
	claim, _ := json.Marshal(text)
	var keys []api.Key
	for i, stage := range []string{"active", "spare", "reserve", text} {
		keys = append(keys, api.Key{KID: text + fmt.Sprint(i), Alg: text, Stage: stage, Publish: &now, Sign: &now, Reach: &api.Reach{Pinned: 2, Behind: []api.BehindItem{{Name: text}}}})
	}
	records := []audit.Record{
		{Seq: 1, Time: now, Action: "key.revoke", By: text, Target: text, Detail: map[string]string{text: text, "alg": text}, Previous: text},
		{Seq: 2, Time: now, Action: text, By: text, Target: text, Previous: text},
	}
	answers := map[string]any{
		"status": api.Status{Version: text, Issuer: text, Issues: list, Now: &now, RotateEvery: "720h", Propagation: text, MaxAge: text,
			Warnings: []api.Warning{{Check: text, Detail: text}, {Check: "audit", Detail: text}}},
		"keys": keys, "clients": []api.Client{client}, "client": client, "users": []api.User{user},
		"audiences":          []api.Audience{{Name: text, Alg: text, TTL: text, Scopes: list, Profile: text}},
		"user":               api.UserDetails{User: user, Blocked: []api.BlockedLogin{{From: text, Until: now}}},
		"verifiers":          []api.Verifier{{Name: text, Credential: "a-credential", URL: "a-credential", Usual: text, Missing: list, Waited: true, WaitedUntil: &now}},
		"verifier":           api.Verifier{Name: text, Last: &now, Missing: list},
		"verifiers/observed": []api.ObservedVerifier{{Address: text, Through: text, Agent: text, First: now, Last: now, Missing: list}},
		"sessions":           api.SessionPage{Sessions: []api.Session{session, live}, More: true, Next: text},
		"nodes": api.Nodes{Shared: true, Node: text, Leases: []api.Lease{{Name: text, Node: text, Until: now}}, Nodes: []api.Node{
			{ID: text, Host: text, Version: text, Live: true, Started: now, Beat: now, ClockOffset: text, Keys: 1, Algorithms: list},
			{ID: text + "0", ClockOffset: "45s", Started: now, Beat: now}, {ID: text + "1", Started: now, Beat: now},
		}},
		"settings":    []api.Setting{{Name: text, Value: text, Source: text}, {Name: text, Source: text}},
		"activity":    []api.ActivityMinute{{Begin: now, Tokens: 5, Refusals: 1}},
		"session/why": api.Explanation{State: text, Why: text, Generation: new(uint32), Session: &session},
		"audit":       api.AuditRecords{Records: records, Next: "1", More: true, Last: 2},
	}
	if r.URL.Path == "/admin/v1/verifier" && r.URL.Query().Get("name") == "fresh" {
		w.WriteHeader(http.StatusNotFound)
		json.NewEncoder(w).Encode(map[string]string{"code": "not_found", "detail": "verifier fresh does not exist"})
		return
	}
	answer := answers[strings.TrimPrefix(r.URL.Path, "/admin/v1/")]
	if u, is := answer.(api.UserDetails); is {
		u.Claims = api.Claims{text: claim}
		answer = u
	}
	json.NewEncoder(w).Encode(answer)
}

// hostile is markup, control characters, and characters that turn the direction of text.
const hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'` onload=x \x1b[31m\u202egnp\u2066\u0000\ufeff javascript:alert(1)&lt;{{.}}"

// R120.
func TestHostileNamesAreTextOnEveryPage(t *testing.T) {
	plain := newVisitor(adminapitest.Serve(t, admin{"name"}))
	attacked := newVisitor(adminapitest.Serve(t, admin{hostile + strings.Repeat("A", 200)}))
	plainBase, attackedBase := plain.login(t), attacked.login(t)
	for i, path := range paths("name") {
		want, got := plain.send("GET", plainBase+path, ""), attacked.send("GET", attackedBase+paths(hostile)[i], "")
		compare(t, path, want, got)
	}
	if strings.Contains(plain.send("GET", plainBase+"verifiers", "").Body.String(), "a-credential") {
		t.Error("the page has the credential of a verifier")
	}
	body := "token=" + strings.Repeat("kmr_secret", 6)
	want, got := plain.send("POST", plainBase+"sessions/why", body), attacked.send("POST", attackedBase+"sessions/why", body)
	compare(t, "sessions/why", want, got)
	if strings.Contains(got.Body.String(), "kmr_secret") {
		t.Error("the answer repeats the token")
	}
}

// compare checks that two pages have the same elements with the same attributes.
func compare(t *testing.T, path string, plain, attacked *httptest.ResponseRecorder) {
	t.Helper()
	strict(t, attacked)
	if plain.Code != attacked.Code {
		t.Errorf("%s: answered %d and %d", path, plain.Code, attacked.Code)
	}
	if plain.Code == 200 && plain.Body.Len() < 1000 {
		t.Errorf("%s has only %d bytes", path, plain.Body.Len())
	}
	want, got := form(plain.Body.String()), form(attacked.Body.String())
	if want != got {
		for i := range want {
			if i >= len(got) || want[i] != got[i] {
				t.Errorf("%s: text became markup:\n%.200s\n%.200s", path, want[max(i-60, 0):], got[min(max(i-60, 0), len(got)):])
				break
			}
		}
	}
	if bad := strings.IndexFunc(attacked.Body.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); bad >= 0 {
		t.Errorf("%s has a character that is not printable: %q", path, attacked.Body.String()[bad:min(bad+40, attacked.Body.Len())])
	}
}

var (
	tags    = regexp.MustCompile(`(?s)<[^>]*>`)
	values  = regexp.MustCompile(`="[^"]*"`)
	numbers = regexp.MustCompile(`d="[^"]*"`)
)

// form returns the tags of a page with the names of their attributes, without the values.
func form(page string) string {
	page = numbers.ReplaceAllString(page, "")
	return strings.Join(tags.FindAllString(values.ReplaceAllString(page, ""), -1), "\n")
}

// TestAPageIsSmall: with style and script it has less than 60 kB, also with 50 rows, and with the 64 keys that can be
// published.
func TestAPageIsSmall(t *testing.T) {
	many := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().UTC()
		var answer any
		switch path := strings.TrimPrefix(r.URL.Path, "/admin/v1/"); path {
		case "status":
			answer = api.Status{RotateEvery: "720h0m0s", Now: &now}
		case "activity":
			var list []api.ActivityMinute
			for i := range 60 {
				list = append(list, api.ActivityMinute{Begin: now.Add(time.Duration(i-60) * time.Minute), Tokens: uint64(20_000 + i), Refusals: uint64(100 + i), Reuses: uint64(i)})
			}
			answer = list
		case "audit":
			p := api.AuditRecords{Next: "0"}
			for i := range 50 {
				if r.URL.Query().Has("action") {
					break
				}
				p.Records = append(p.Records, audit.Record{Seq: uint64(i + 1), Time: now, Action: "session.login", By: "client:web", Target: "user:0123456789abcdef", Detail: map[string]string{"session": "01234567890123456789012345", "from": "192.0.2.1", "client": "web"}})
			}
			answer = p
		case "nodes":
			p := api.Nodes{Shared: true, Node: "node-0"}
			for i := range 20 {
				p.Nodes = append(p.Nodes, api.Node{ID: fmt.Sprintf("node-%d", i), Host: "web-1.example.com", Version: "1.2.3", Live: true, Started: now, Beat: now, ClockOffset: "100ms", Keys: 17, Generation: 1})
			}
			answer = p
		case "sessions":
			p := api.SessionPage{Next: "x"}
			for i := range 50 {
				p.Sessions = append(p.Sessions, api.Session{ID: fmt.Sprintf("%026d", i), User: "0123456789abcdef", Client: "web", State: "live", Created: now, LastUsed: now, Expires: now})
			}
			answer = p
		default:
			list := []map[string]any{}
			for i := range 64 {
				list = append(list, map[string]any{
					"kid": fmt.Sprintf("%043d", i), "alg": "EdDSA", "stage": "retiring", "publish": now, "sign": now, "stop": now, "drop": now.Add(time.Hour),
					"client_id": fmt.Sprintf("client-%d", i), "grants": []string{"refresh_token", "client_credentials"}, "audiences": []string{"orders", "billing"}, "scopes": []string{"read", "write"}, "created": now,
					"user_id": fmt.Sprintf("%016d", i), "username": fmt.Sprintf("user-%d@example.com", i), "password_scheme": "argon2id", "last_login": now,
					"audience": fmt.Sprintf("audience-%d", i), "ttl": "15m0s", "profile": "rfc9068",
					"name": fmt.Sprintf("verifier-%d", i), "address": "192.0.2.1", "user_agent": "Go-http-client/1.1", "first": now, "missing": []string{},
				})
			}
			answer = list
		}
		json.NewEncoder(w).Encode(answer)
	})
	v := newVisitor(adminapitest.Serve(t, many))
	base, files := v.login(t), 0
	for _, file := range []string{"console.css", "console.js", "icon.svg"} {
		files += v.send("GET", "/static/"+file, "").Body.Len()
	}
	for _, path := range []string{"", "keys", "verifiers", "clients", "audiences", "users", "sessions", "nodes", "audit", "settings"} {
		w := v.send("GET", base+path, "")
		if size := w.Body.Len() + files; w.Code != 200 || size >= 60_000 {
			t.Errorf("%s: %d, %d bytes", path, w.Code, size)
		} else {
			t.Logf("%s: %d bytes with style and script", path, size)
		}
	}
}

// TestAConsoleWithoutItsServerSaysSoAndGoesOn trying.
func TestAConsoleWithoutItsServerSaysSoAndGoesOn(t *testing.T) {
	var gone atomic.Bool
	v := newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() {
			panic(http.ErrAbortHandler)
		}
		admin{"name"}.ServeHTTP(w, r)
	})))
	base := v.login(t)
	for _, ended := range []bool{false, true, false} {
		gone.Store(ended)
		for _, path := range []string{"", "keys", "users", "sessions?user=alice"} {
			w := v.send("GET", base+path, "")
			text := w.Body.String()
			if !ended {
				if w.Code != 200 {
					t.Errorf("%s: %d", path, w.Code)
				}
				continue
			}
			refused(t, w, http.StatusServiceUnavailable, "The server does not answer")
			if !strings.Contains(text, "goes on trying") || !strings.Contains(text, `http-equiv="refresh"`) || !strings.Contains(text, "auto=1") {
				t.Errorf("%s does not try again:\n%s", path, text)
			}
		}
	}
}

// TestAChangedRecordIsSeen: the chain of the records that are shown is compared.
func TestAChangedRecordIsSeen(t *testing.T) {
	first := audit.Record{Seq: 1, Action: "server.start"}
	second := audit.Record{Seq: 2, Action: "user.add", Previous: hashOf(t, first)}
	third := audit.Record{Seq: 3, Action: "user.add", Previous: hashOf(t, second)}
	if got := chain([]audit.Record{first, second, third}, false); got.Kind != "good" || !strings.Contains(got.Text, "2 records") {
		t.Errorf("got %+v", got)
	}
	if got := chain([]audit.Record{first, third}, true); got.Kind != "dull" {
		t.Errorf("without neighbours: %+v", got)
	}
	if got := chain([]audit.Record{first, third, {Action: "waits"}}, false); got.Kind != "bad" || !strings.Contains(got.Text, "between 1 and 3, records are missing: 1") {
		t.Errorf("without the second: %+v", got)
	}
	changed := second
	changed.By = "uid:0"
	if got := chain([]audit.Record{first, changed, third}, false); got.Kind != "bad" || !strings.Contains(got.Text, "record 3") {
		t.Errorf("got %+v", got)
	}
}

func TestWordsForTimes(t *testing.T) {
	for text, want := range map[string]string{"0s": "now", "90s": "in 1 min", "-2h5m": "2 h 5 min ago", "49h": "in 2 d 1 h", "-3000h": "125 d ago", "20s": "in 20 s"} {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := relative(d); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

func TestATextIsBoundedAndPrintable(t *testing.T) {
	if got := short(strings.Repeat("é", 200)); got != strings.Repeat("é", maxText)+"…" {
		t.Errorf("got %q", got)
	}
	if got := short("\x1b[31m\u202e"); bytes.ContainsAny([]byte(got), "\x1b\u202e") {
		t.Errorf("got %q", got)
	}
}
