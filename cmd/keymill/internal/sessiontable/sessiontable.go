// Package sessiontable lists sessions, and prints them and what is known about a refresh token.
package sessiontable

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// List asks page by page for up to limit sessions. next is not "" if there can be more.
func List(ctx context.Context, server *adminapi.Client, query url.Values, limit int) (list []api.Session, next string, err error) {
	list = []api.Session{}
	for {
		query.Set("limit", strconv.Itoa(min(limit-len(list), adminapi.PageSize)))
		page, _, err := adminapi.Ask[api.SessionPage](ctx, server, http.MethodGet, "sessions?"+query.Encode(), nil)
		if err != nil {
			return nil, "", err
		}
		if list = append(list, page.Sessions...); !page.More || len(list) >= limit {
			return list, page.Next, nil
		}
		query.Set("after", page.Next)
	}
}

// Print writes a table of sessions.
func Print(w io.Writer, list ...api.Session) error {
	t := terminal.NewTable(w, "SESSION", "USER", "CLIENT", "LOGIN", "STATE", "CREATED", "LAST USED", "ENDS", "GENERATION", "RETRIES", "REASON")
	for _, s := range list {
		t.Row(s.ID, s.User, s.Client, s.Endpoint, s.State, terminal.FormatTime(&s.Created), terminal.FormatTime(&s.LastUsed), terminal.FormatTime(sessionEnd(s)),
			strconv.FormatUint(uint64(s.Generation), 10), retriesText(s), terminal.OrDash(s.Reason))
	}
	return t.Flush()
}

// sessionEnd returns when the session ends if it is not used, or when it has ended. It is nil if
// the session ended together with others, because no time of its own is stored then.
func sessionEnd(s api.Session) *time.Time {
	if s.State == "revoked" {
		return s.Ended
	}
	return &s.Expires
}

func retriesText(s api.Session) string {
	if s.Shared {
		return strconv.Itoa(s.Graced) + ", shared"
	}
	return strconv.Itoa(s.Graced)
}

// PrintExplanation writes what is known about a refresh token.
func PrintExplanation(w io.Writer, e api.Explanation) error {
	t := terminal.NewTable(w)
	t.Row("token:", e.State)
	t.Row("why:", cmp.Or(e.Why, "-"))
	if e.Generation != nil {
		t.Row("generation:", strconv.FormatUint(uint64(*e.Generation), 10))
	}
	if s := e.Session; s != nil {
		t.Row("session:", s.ID)
		t.Row("user:", s.User)
		t.Row("client:", s.Client)
		t.Row("state:", s.State)
		t.Row("current:", "generation "+strconv.FormatUint(uint64(s.Generation), 10)+", since "+terminal.FormatTime(&s.LastUsed))
		t.Row("created:", terminal.FormatTime(&s.Created))
		if s.State != "revoked" {
			t.Row("expires:", terminal.FormatTime(&s.Expires))
		}
		if s.Ended != nil {
			t.Row("ended:", terminal.FormatTime(s.Ended))
		}
	}
	return t.Flush()
}
