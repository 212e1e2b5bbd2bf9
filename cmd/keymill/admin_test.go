package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"keymill/issuer/api"
)

// serveSocket serves handler on an admin socket and returns a client for it.
func serveSocket(t *testing.T, handler http.Handler) *adminClient {
	t.Helper()
	dir, err := os.MkdirTemp("", "km")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return newAdminClient(socket)
}

// newPagedServer lists as many audiences as names has elements, and fills names. Its pages
// have the length that the request asks for.
func newPagedServer(t *testing.T, names []string) *adminClient {
	for i := range names {
		names[i] = fmt.Sprintf("audience-%06d & co", i)
	}
	return serveSocket(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
			w.Write([]byte(`{"error":"not_found","error_description":"no such key"}`))
		}, "no such key"},
	} {
		server := serveSocket(t, tt.handler)
		_, _, err := ask[[]api.Key](t.Context(), server, http.MethodGet, "keys", nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
