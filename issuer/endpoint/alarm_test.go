package endpoint

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// TestAFloodOfLoginsDoesNotHideAReplay, although the server is busy or cannot serve them.
//
// R104.
func TestAFloodOfLoginsDoesNotHideAReplay(t *testing.T) {
	const requests = 3 * limit.Lines
	unusable := newStatusError(503, temporarilyUnavailable, "login is temporarily unavailable")
	for _, tt := range []struct {
		code, user string
		err        error
		lines      int
	}{
		{"busy", "", &issuer.BusyError{}, 0},
		{"busy", "7", &issuer.BusyError{}, limit.Lines},
		{"client_not_allowed", "", unusable, 0},
		{"client_not_allowed", "7", unusable, limit.Lines},
	} {
		inBubble(t, func(t *testing.T, w *world) {
			w.withAlice()
			w.setClient("web", api.ClientChange{Grace: new("0s")})
			p := w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword)))
			w.rotate(p.Refresh)
			w.logged()
			for n := range requests {
				r := request(t, "/api/token/", "")
				r.RemoteAddr = fmt.Sprintf("198.51.%d.%d:1", n>>8, n&255)
				w.server.public.writeError(httptest.NewRecorder(), r,
					&refusal.Reason{Code: tt.code, Login: true, User: tt.user, Err: &clientError{"web", tt.err}})
			}
			if lines := w.logged(); len(lines) != tt.lines {
				t.Errorf("%s of user %q: %d lines, want %d", tt.code, tt.user, len(lines), tt.lines)
			}
			w.rotate(p.Refresh)
			want(t, tt.code, w.logged(), "msg=refresh_of_token_of_replayed level=WARN user=7")
			w.server.lines.Report()
			if got := w.leftOut()[tt.code]; got != requests-tt.lines {
				t.Errorf("%s of user %q: %d counted, want %d", tt.code, tt.user, got, requests-tt.lines)
			}
		})
	}
}
