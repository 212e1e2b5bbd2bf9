// Service runs Vault's auth method jwt without the server of Vault. It does the `vault write auth/jwt/…` lines of SERVICE_COMMANDS,
// prints its URL and logs in with the bearer token of each request, in the role SERVICE_ROLE. GET /renew renews the Vault token of the last login.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	hclog "github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	"github.com/hashicorp/vault/sdk/logical"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	storage := &logical.InmemStorage{}
	backend, err := jwtauth.Factory(context.Background(), &logical.BackendConfig{
		Logger:      hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn}),
		System:      &logical.StaticSystemView{DefaultLeaseTTLVal: 12 * time.Hour, MaxLeaseTTLVal: 24 * time.Hour},
		StorageView: storage,
	})
	if err != nil {
		return err
	}
	m := &method{backend: backend, storage: storage, role: os.Getenv("SERVICE_ROLE")}
	for line := range strings.Lines(strings.ReplaceAll(os.Getenv("SERVICE_COMMANDS"), "\\\n", " ")) {
		if words := strings.Fields(line); len(words) > 2 && words[1] == "write" {
			if err := m.configure(words[2], words[3:]); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	http.HandleFunc("GET /{$}", m.login)
	http.HandleFunc("GET /renew", m.renew)
	fmt.Println("http://" + listener.Addr().String())
	return http.Serve(listener, nil)
}

// A method is an auth method that is enabled at auth/jwt.
type method struct {
	backend logical.Backend
	storage logical.Storage
	role    string
	last    atomic.Pointer[logical.Auth] // of the last login
}

// handle returns the answer of the method; a refusal is an error.
func (m *method) handle(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	req.Storage = m.storage
	resp, err := m.backend.HandleRequest(ctx, req)
	if err == nil && resp != nil && resp.IsError() {
		err = resp.Error()
	}
	return resp, err
}

func (m *method) configure(path string, values []string) error {
	path, found := strings.CutPrefix(path, "auth/jwt/")
	if !found {
		return errors.New("the path is not below auth/jwt/")
	}
	data := map[string]any{}
	for _, v := range values {
		name, value, found := strings.Cut(v, "=")
		if !found {
			return fmt.Errorf("%q has no =", v)
		}
		data[name] = value
	}
	req := &logical.Request{Operation: logical.UpdateOperation, Path: path, Data: data, Storage: m.storage}
	checked, exists, err := m.backend.HandleExistenceCheck(context.Background(), req)
	if err != nil {
		return err
	}
	if checked && !exists {
		req.Operation = logical.CreateOperation
	}
	_, err = m.handle(context.Background(), req)
	return err
}

func (m *method) login(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	resp, err := m.handle(r.Context(), &logical.Request{Operation: logical.UpdateOperation, Path: "login",
		Data: map[string]any{"role": m.role, "jwt": token}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	m.last.Store(resp.Auth)
	answer(w, resp.Auth)
}

func (m *method) renew(w http.ResponseWriter, r *http.Request) {
	resp, err := m.handle(r.Context(), &logical.Request{Operation: logical.RenewOperation, Path: "login", Auth: m.last.Load()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	answer(w, resp.Auth)
}

func answer(w http.ResponseWriter, auth *logical.Auth) {
	json.NewEncoder(w).Encode(map[string]any{"sub": auth.Alias.Name, "policies": auth.Policies, "seconds": auth.TTL.Seconds()})
}
