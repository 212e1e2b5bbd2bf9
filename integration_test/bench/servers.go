package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"keymill/integration_test/server"
)

// The servers are one Keymill and one floor with the same clients, so that both answer the
// same requests.
type servers struct {
	keymill  *server.Server
	floor    *server.Companion
	accounts accounts

	keymillTarget, floorTarget target
}

// The accounts are the clients and the user that make the requests.
type accounts struct {
	service, web server.Client // with client_credentials, with refresh_token
	user         string
	password     string
}

// startServers starts both. Keymill runs as in production, with a configuration file, a master
// key and records that the operator's verbs add.
func startServers() (*servers, error) {
	keymill, err := server.New(server.Options{Config: "simplejwt:\n  client: bench-web\n"})
	if err != nil {
		return nil, err
	}
	s := &servers{keymill: keymill}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *servers) open() error {
	if err := s.keymill.Start(); err != nil {
		return err
	}
	s.keymillTarget = target{strings.TrimPrefix(s.keymill.Issuer, "http://"), s.keymill.PID()}
	if err := s.addAccounts(); err != nil {
		return err
	}
	status, set, err := s.keymill.Get(context.Background(), "/.well-known/jwks.json")
	if err != nil || status != 200 {
		return fmt.Errorf("read the key set: status %d, %w", status, err)
	}
	return s.startFloor(len(set))
}

// addAccounts adds an audience for each algorithm, a client of both, a client for logins and a
// user.
func (s *servers) addAccounts() error {
	s.accounts.user, s.accounts.password = "bench-user", rand.Text()
	for _, step := range []struct {
		line string
		in   string
		out  *server.Client
	}{
		{line: "audience add " + audienceEd + " --alg EdDSA --ttl 15m --scope read"},
		{line: "audience add " + audienceRSA + " --alg RS256 --ttl 15m --scope read"},
		{line: "client add bench --grant client_credentials --audience " + audienceEd +
			" --audience " + audienceRSA + " --scope read --json", out: &s.accounts.service},
		{line: "client add bench-web --grant refresh_token --audience " + audienceEd +
			" --scope read --json", out: &s.accounts.web},
		{line: "user add " + s.accounts.user + " --password-stdin", in: s.accounts.password},
	} {
		out, errs, err := s.keymill.VerbWith(context.Background(), step.in, strings.Fields(step.line)...)
		if err != nil {
			return fmt.Errorf("keymill %s: %w: %s", step.line, err, errs)
		}
		if step.out == nil {
			continue
		}
		if err := json.Unmarshal([]byte(out), step.out); err != nil {
			return fmt.Errorf("answer of %s: %w", step.line, err)
		}
	}
	return nil
}

// startFloor starts this program a second time, as the floor.
func (s *servers) startFloor(bytes int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	address, err := server.FreeAddress()
	if err != nil {
		return err
	}
	// Its records are beside Keymill's, so that both use one file system.
	cmd := exec.Command(self, "floor", "-listen", address, "-bytes", strconv.Itoa(bytes), "-dir", s.keymill.Dir,
		"-client", s.accounts.service.ID+":"+s.accounts.service.Secret, "-client", s.accounts.web.ID+":"+s.accounts.web.Secret)
	cmd.Env, cmd.Stderr = server.Environment(), os.Stderr
	if s.floor, err = server.Launch(cmd); err != nil {
		s.floor = nil
		return err
	}
	s.floorTarget = target{address, cmd.Process.Pid}
	return awaitListener(address)
}

// awaitListener returns when a server accepts connections at address.
func awaitListener(address string) error {
	var err error
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("no server listens at %s: %w", address, err)
}

func (s *servers) close() error {
	var err error
	if s.floor != nil {
		err = s.floor.Close()
	}
	return errors.Join(err, s.keymill.Close())
}
