// Package adminapitest has what tests of commands need to ask a server.
package adminapitest

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"keymill/cmd/keymill/internal/adminapi"
)

// Serve serves handler on an admin socket and returns a client for it.
func Serve(t *testing.T, handler http.Handler) *adminapi.Client {
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
	return adminapi.New(socket)
}
