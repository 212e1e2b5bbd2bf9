package console

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/issuer/api"
)

// A changing server has keys and entries that change, and remembers the changes that it was asked for.
type changing struct {
	admin
	mu      sync.Mutex
	version int
	asked   []string // the requests that change something
	refuse  string   // the code of a refusal
	racing  bool     // another administrator changes everything just before
}

func (c *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/admin/v1/")
	tag := fmt.Sprintf(`"%d"`, c.version)
	if r.Method != http.MethodGet {
		body, _ := io.ReadAll(r.Body)
		if c.racing {
			c.version++
			tag = fmt.Sprintf(`"%d"`, c.version)
		}
		switch sent := r.Header.Get("If-Match"); {
		case c.refuse != "":
			w.WriteHeader(http.StatusConflict)
			json.NewEncoder(w).Encode(map[string]string{"code": c.refuse, "detail": "the words of the server"})
			return
		case sent != "" && sent != tag:
			w.WriteHeader(http.StatusPreconditionFailed)
			json.NewEncoder(w).Encode(map[string]string{"code": "precondition_failed", "detail": "changed"})
			return
		}
		c.asked = append(c.asked, strings.TrimSpace(r.Method+" "+path+" "+r.URL.RawQuery+" "+string(body)))
		c.version++
		if r.Method == http.MethodDelete && path != "session" || path == "sessions/revoke" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"client_id": "name", "user_id": "name", "session_id": "name", "kid": "key-0",
			"client_secret": "a-new-secret", "url": "https://id.example/a-credential"})
		return
	}
	w.Header().Set("ETag", tag)
	now := time.Now()
	if path == "sessions" {
		states := map[bool]string{true: "live", false: "revoked"}
		json.NewEncoder(w).Encode(api.SessionPage{Sessions: []api.Session{{ID: "name", User: "name", Client: "name", State: states[c.version == 0], Created: now, LastUsed: now, Expires: now}}})
		return
	}
	if path == "keys" {
		json.NewEncoder(w).Encode([]api.Key{
			{KID: fmt.Sprintf("key-%d", c.version), Alg: "EdDSA", Stage: "active", Publish: &now, Reach: &api.Reach{Pinned: 3, Served: 2}},
			{KID: fmt.Sprintf("key-%d", c.version+1), Alg: "EdDSA", Stage: "spare", Publish: &now, Reach: &api.Reach{Pinned: 3, Served: 1, Behind: []api.BehindItem{{Name: "orders"}}}},
		})
		return
	}
	c.admin.ServeHTTP(w, r)
}

func (c *changing) requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.asked...)
}

// change changes the server behind the back of the console.
func (c *changing) change() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
}

func newChanging(t *testing.T) (*changing, *visitor, string) {
	t.Helper()
	c := &changing{admin: admin{"name"}}
	v := newVisitor(adminapitest.Serve(t, c))
	return c, v, v.login(t)
}

var optionValue = regexp.MustCompile(`<option value="([^"]*)"`)

var tokenField = regexp.MustCompile(`name="token" value="(\w{26})"`)

// answer opens the page of an action and returns the form that it would send.
func answer(t *testing.T, v *visitor, path, typed string) string {
	t.Helper()
	w := v.send("GET", path, "")
	token := tokenField.FindStringSubmatch(w.Body.String())
	if w.Code != 200 || token == nil {
		t.Fatalf("%s asks nothing: %d\n%s", path, w.Code, w.Body)
	}
	form := url.Values{"token": {token[1]}, "typed": {typed}}
	if first := optionValue.FindStringSubmatch(w.Body.String()); first != nil {
		form.Set("choice", first[1])
	}
	return form.Encode()
}

func wantRequests(t *testing.T, c *changing, want ...string) {
	t.Helper()
	if got := c.requests(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the server was asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEveryActionSaysWhatHappensAndDoesItOnce: the page has the numbers and the command line, and changes nothing; the form does
// what it says, and the next page has a note.
//
// R120.
func TestEveryActionSaysWhatHappensAndDoesItOnce(t *testing.T) {
	for _, tt := range actionCases {
		t.Run(tt.path+tt.typed, func(t *testing.T) {
			c, v, base := newChanging(t)
			page := v.send("GET", base+tt.path, "")
			for _, want := range append(tt.shown, "keymill "+tt.command) {
				if !strings.Contains(page.Body.String(), want) {
					t.Errorf("the page does not say %q:\n%s", want, page.Body)
				}
			}
			form := answer(t, v, base+tt.path, tt.typed)
			wantRequests(t, c)
			w := v.send("POST", base+"do", form)
			wantRequests(t, c, tt.request)
			if tt.once != "" {
				if w.Code != 200 || !strings.Contains(w.Body.String(), tt.once) {
					t.Errorf("answered %d:\n%s", w.Code, w.Body)
				}
			} else if note := v.send("GET", w.Header().Get("Location"), ""); w.Code != http.StatusSeeOther || !strings.Contains(note.Body.String(), `<p class="done" role="status">`) {
				t.Errorf("answered %d, and then\n%s", w.Code, note.Body)
			}
			refused(t, v.send("POST", base+"do", form), http.StatusConflict, "sent already")
			wantRequests(t, c, tt.request)
		})
	}
}

// TestAChangeInBetweenIsSaid, and nothing is done: a second tab, a stale page.
//
// R120.
func TestAChangeInBetweenIsSaid(t *testing.T) {
	for _, tt := range actionCases {
		if tt.blind {
			continue
		}
		t.Run(tt.path+tt.typed, func(t *testing.T) {
			c, v, base := newChanging(t)
			first, second := answer(t, v, base+tt.path, tt.typed), answer(t, v, base+tt.path, tt.typed)
			if first == second {
				t.Error("two tabs have one token")
			}
			c.change()
			w := v.send("POST", base+"do", first)
			refused(t, w, http.StatusConflict, "changed since you looked")
			if !strings.Contains(w.Body.String(), "Look again") || !strings.Contains(w.Body.String(), "keymill "+tt.command) {
				t.Errorf("the way on is missing:\n%s", w.Body)
			}
			wantRequests(t, c)
		})
	}
}

// TestTheServerDecidesBetweenTwoAdministrators: where the API takes If-Match, a change in the last moment is noticed too.
//
// R120.
func TestTheServerDecidesBetweenTwoAdministrators(t *testing.T) {
	for _, tt := range actionCases {
		if !strings.HasPrefix(tt.request, "PATCH ") && !strings.HasPrefix(tt.request, "DELETE client") && !strings.HasPrefix(tt.request, "DELETE user") {
			continue
		}
		c, v, base := newChanging(t)
		form := answer(t, v, base+tt.path, tt.typed)
		c.racing = true
		refused(t, v.send("POST", base+"do", form), http.StatusConflict, "changed since you looked")
		wantRequests(t, c)
	}
}

// R120.
func TestAFormNeedsItsTokenAndOrigin(t *testing.T) {
	c, v, base := newChanging(t)
	path := base + "key/revoke?kid=key-0"
	form := answer(t, v, path, "revoke")
	for _, origin := range []string{"https://evil.example", "null", "", "http://127.0.0.1:8422"} {
		refused(t, v.send("POST", base+"do", form, "Origin", origin), http.StatusForbidden, "Another site")
	}
	refused(t, (&visitor{site: v.site}).send("POST", base+"do", form), http.StatusForbidden, "not logged in")
	refused(t, v.send("GET", base+"do?"+form, ""), http.StatusMethodNotAllowed, "does not answer GET")
	refused(t, v.send("POST", path, form), http.StatusMethodNotAllowed, "does not answer POST")
	refused(t, v.send("POST", base+"do?"+form, ""), http.StatusBadRequest, "has no token")
	refused(t, v.send("POST", base+"do", "typed=revoke"), http.StatusBadRequest, "has no token")
	refused(t, v.send("POST", base+"do", "token="+strings.Repeat("A", 26)+"&typed=revoke"), http.StatusBadRequest, "Nothing was done")
	refused(t, v.send("POST", base+"do", "token="+strings.Repeat("A", maxBodyBytes)), http.StatusRequestEntityTooLarge, "larger than 16 kB. Nothing was done")
	refused(t, v.send("POST", base+"do", form+"&x=%zz"), http.StatusBadRequest, "is malformed. Nothing was done")
	wrong := strings.Replace(form, "typed=revoke", "typed=Revoke", 1)
	w := v.send("POST", base+"do", wrong)
	refused(t, w, http.StatusBadRequest, "What was typed is not revoke")
	if !tokenField.MatchString(w.Body.String()) {
		t.Error("the form is not shown again")
	}
	wantRequests(t, c)
	if w := v.send("POST", base+"do", form); w.Code != http.StatusSeeOther {
		t.Errorf("after a mistake the form does not work: %d", w.Code)
	}
}

// TestAChoiceIsOneThatWasOffered: a secret that has leaked does not go on for a day because of a form that was changed.
//
// R120.
func TestAChoiceIsOneThatWasOffered(t *testing.T) {
	c, v, base := newChanging(t)
	for choice, want := range map[string]string{"0s": `"old_for":"0s"`, "168h": `"old_for":"168h"`, "99999h": "", "": "", "0": ""} {
		form, _ := url.ParseQuery(answer(t, v, base+"client/secret?id=name", ""))
		form.Set("choice", choice)
		before := len(c.requests())
		w := v.send("POST", base+"do", form.Encode())
		asked := strings.Join(c.requests()[before:], "")
		if want == "" {
			refused(t, w, http.StatusBadRequest, "a choice that was not offered. Nothing was done.")
		}
		if (want == "") != (asked == "") || !strings.Contains(asked, want) {
			t.Errorf("with %q the server was asked %q", choice, asked)
		}
	}
}

// TestASessionThatHasEndedIsNotEnded again, and not said to be.
func TestASessionThatHasEndedIsNotEnded(t *testing.T) {
	c, v, base := newChanging(t)
	c.change()
	refused(t, v.send("GET", base+"session/revoke?id=name", ""), http.StatusBadRequest, "The session name has ended already: it is revoked.")
	refused(t, v.send("GET", base+"session/revoke?id=other", ""), http.StatusBadRequest, "End it in a terminal: keymill session revoke other --data ")
}

// R120.
func TestAFormExpiresAfterTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q questions
		late := q.add(asked{question: &question{}}, time.Now())
		time.Sleep(askTime - time.Second)
		intime := q.add(asked{question: &question{}}, time.Now())
		time.Sleep(time.Second)
		if _, problem := q.take(late, "", time.Now()); problem != unknownToken {
			t.Errorf("a late form: %q", problem)
		}
		if _, problem := q.take(intime, "", time.Now()); problem != "" {
			t.Errorf("a form in time: %q", problem)
		}
		for range 3 * maxQuestions {
			q.add(asked{note: "x"}, time.Now())
		}
		if len(q.asked) != maxQuestions {
			t.Errorf("%d questions are remembered", len(q.asked))
		}
	})
}

// TestARefusalIsShownInWords, with the command line.
func TestARefusalIsShownInWords(t *testing.T) {
	for _, tt := range actionCases {
		c, v, base := newChanging(t)
		form := answer(t, v, base+tt.path, tt.typed)
		c.refuse = "not_ready"
		w := v.send("POST", base+"do", form)
		refused(t, w, http.StatusBadRequest, "Nothing was done. The server says: the words of the server.")
		if !strings.Contains(w.Body.String(), "keymill "+tt.command) {
			t.Errorf("%s: the command line is missing:\n%s", tt.path, w.Body)
		}
	}
}

// TestTwoClicksAtOnceDoOneThing.
//
// R120.
func TestTwoClicksAtOnceDoOneThing(t *testing.T) {
	c, v, base := newChanging(t)
	form := answer(t, v, base+"key/rotate?alg=EdDSA", "")
	var clicks sync.WaitGroup
	answers := make([]*httptest.ResponseRecorder, 8)
	for i := range answers {
		clicks.Go(func() { answers[i] = (&visitor{site: v.site, cookies: v.cookies}).send("POST", base+"do", form) })
	}
	clicks.Wait()
	did := 0
	for _, w := range answers {
		if w.Code == http.StatusSeeOther {
			did++
		}
	}
	if did != 1 || len(c.requests()) != 1 {
		t.Errorf("%d clicks of %d did it, and the server was asked %q", did, len(answers), c.requests())
	}
}

// TestHostileNamesAreTextOnEveryQuestion.
//
// R120.
func TestHostileNamesAreTextOnEveryQuestion(t *testing.T) {
	text := hostile + strings.Repeat("A", 200)
	plain, attacked := newVisitor(adminapitest.Serve(t, admin{"name"})), newVisitor(adminapitest.Serve(t, admin{text}))
	plainBase, attackedBase := plain.login(t), attacked.login(t)
	for i, path := range asks("name") {
		want, got := plain.send("GET", plainBase+path, ""), attacked.send("GET", attackedBase+asks(text)[i], "")
		if want.Code != 200 {
			t.Errorf("%s: %d\n%s", path, want.Code, want.Body)
		}
		compare(t, path, want, got)
		if size := got.Body.Len(); size > 20_000 {
			t.Errorf("%s has %d bytes", path, size)
		}
	}
}
