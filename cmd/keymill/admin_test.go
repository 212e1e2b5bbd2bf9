package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// newPagedServer lists as many audiences as names has elements, and fills names. Its pages
// have the length that the request asks for.
func newPagedServer(t *testing.T, names []string) *adminapi.Client {
	for i := range names {
		names[i] = fmt.Sprintf("audience-%06d & co", i)
	}
	return adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			t.Error(err)
		}
		page := []api.Audience{}
		for _, name := range names {
			if name > r.URL.Query().Get("after") && len(page) < limit {
				page = append(page, api.Audience{Name: name})
			}
		}
		json.NewEncoder(w).Encode(page)
	}))
}

// TestABrokenAnswerIsExplained in words that need no knowledge of Go.
func TestABrokenAnswerIsExplained(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "closed the connection without an answer"},
		{"not JSON", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("hello")) }, "cannot read the server's answer: "},
		{"status only", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, "the server answered 502"},
		{"refusal", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			w.Write([]byte(`{"code":"not_found","detail":"no such key"}`))
		}, "no such key"},
	} {
		server := adminapitest.Serve(t, tt.handler)
		_, _, err := adminapi.Ask[[]api.Key](t.Context(), server, http.MethodGet, "keys", nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestAServerThatEndsInTheMiddleIsNoQuestionOfTheUser: it has answered before, so what is not known is whether the last
// change was made.
func TestAServerThatEndsInTheMiddleIsNoQuestionOfTheUser(t *testing.T) {
	requests := 0
	server := adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests > 1 {
			panic(http.ErrAbortHandler)
		}
		w.Write([]byte("{}"))
	}))
	for _, want := range []string{"", "ended in the middle of a request"} {
		_, _, err := adminapi.Ask[api.Key](t.Context(), server, http.MethodPost, "keys/rotate", []int{})
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(terminal.HintOf(err), "may be done or not")) {
			t.Errorf("%v, hint %q", err, terminal.HintOf(err))
		}
	}
}
