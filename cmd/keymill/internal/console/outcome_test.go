package console

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
)

// unclear are answers to a change that was made, or may have been.
var unclear = map[string]func(http.ResponseWriter){
	"nothing":             func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	"half an answer":      func(w http.ResponseWriter) { w.Header().Set("Content-Length", "5000"); io.WriteString(w, `{"kid":`) },
	"no content":          func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
	"a page":              func(w http.ResponseWriter) { io.WriteString(w, "<h1>Log in to this network</h1>") },
	"a bad gateway":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
	"a slow gateway":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusGatewayTimeout); io.WriteString(w, "{}") },
	"a timeout":           func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestTimeout) },
	"a redirect":          func(w http.ResponseWriter) { w.Header().Set("Location", "/login"); w.WriteHeader(http.StatusFound) },
	"a status in the way": func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway); io.WriteString(w, `{"status":400}`) },
}

// unclearWithContent are answers that are wrong where the server's own has content.
var unclearWithContent = map[string]func(http.ResponseWriter){
	"an empty object": func(w http.ResponseWriter) { io.WriteString(w, "{}") },
	"null":            func(w http.ResponseWriter) { io.WriteString(w, "null") },
	"another entry":   func(w http.ResponseWriter) { io.WriteString(w, `{"client_id":"x","user_id":"x","session_id":"x"}`) },
	"no content":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
}

// hasContent reports whether the server's answer to a change has content.
func hasContent(tt actionCase) bool {
	return !strings.HasPrefix(tt.request, "POST sessions/revoke") && (!strings.HasPrefix(tt.request, "DELETE") || strings.HasPrefix(tt.request, "DELETE session"))
}

// answered sends the form of each action to a server that answers a change with write, and returns the pages.
func answered(t *testing.T, write func(http.ResponseWriter), actions func(actionCase) bool) map[string]string {
	t.Helper()
	c, pages := &changing{admin: admin{"name"}}, map[string]string{}
	v := newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			write(w)
			return
		}
		c.ServeHTTP(w, r)
	})))
	base := v.login(t)
	for _, tt := range actionCases {
		if !actions(tt) {
			continue
		}
		w := v.send("POST", base+"do", answer(t, v, base+tt.path, tt.typed))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: answered %d", tt.path, w.Code)
		}
		pages[tt.path] = w.Body.String()
	}
	return pages
}

func every(actionCase) bool { return true }

// TestAnUnclearAnswerIsSaid: nothing looks done, and nothing is said to be undone, unless the server says so.
func TestAnUnclearAnswerIsSaid(t *testing.T) {
	check := func(what string, pages map[string]string) {
		for path, page := range pages {
			if !strings.Contains(page, "It is not known whether it was done. Look before you ask again.") || strings.Contains(page, "Nothing was done") || strings.Contains(page, `class="done"`) {
				t.Errorf("%s after %s:\n%s", what, path, page)
			}
		}
	}
	for what, write := range unclear {
		check(what, answered(t, write, every))
	}
	for what, write := range unclearWithContent {
		check(what, answered(t, write, hasContent))
	}
}

// TestAServerThatFailsIsQuoted: only its words can tell whether the change was made.
func TestAServerThatFailsIsQuoted(t *testing.T) {
	for request, page := range answered(t, func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"code":"unavailable","detail":"the store has failed."}`)
	}, every) {
		if !strings.Contains(page, "The server says: the store has failed. Look whether it was done before you ask again.") || strings.Contains(page, "Nothing was done") {
			t.Errorf("%s:\n%s", request, page)
		}
	}
}

// TestAServerThatIsGoneBeforeTheChangeLeavesNoDoubt: the console reads again first, and asks for nothing if that fails.
func TestAServerThatIsGoneBeforeTheChangeLeavesNoDoubt(t *testing.T) {
	c, gone := &changing{admin: admin{"name"}}, false
	v := newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone {
			panic(http.ErrAbortHandler)
		}
		c.ServeHTTP(w, r)
	})))
	base := v.login(t)
	form := answer(t, v, base+"key/rotate?alg=EdDSA", "")
	gone = true
	refused(t, v.send("POST", base+"do", form), http.StatusServiceUnavailable, "Nothing was done. The server does not answer: ")
	wantRequests(t, c)
}

// TestANoteSaysWhatWasDoneAndWhen: its page can be loaded again when it is no longer true.
func TestANoteSaysWhatWasDoneAndWhen(t *testing.T) {
	c, v, base := newChanging(t)
	w := v.send("POST", base+"do", answer(t, v, base+"client/disable?id=name", ""))
	page := v.send("GET", w.Header().Get("Location"), "").Body.String()
	now := time.Now().UTC()
	if !strings.Contains(page, "Disabled client name.") || !strings.Contains(page, "At "+now.Format("15:")) && !strings.Contains(page, "At "+now.Add(-time.Minute).Format("15:")) {
		t.Errorf("the page says\n%s", page)
	}
	if len(c.requests()) != 1 {
		t.Errorf("the server was asked %q", c.requests())
	}
}
