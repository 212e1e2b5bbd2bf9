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

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// The servers are one Keymill, and either a floor with the same clients, so that both answer the same
// requests, or another build of Keymill.
type servers struct {
	keymill *server.Server
	floor   *server.Companion
	other   *server.Server

	keymillTarget, floorTarget target
}

// The accounts are the clients and the user that make the requests.
type accounts struct {
	service, web server.Client // with client_credentials, with refresh_token
	user         string
	password     string
}

// startServers starts both. against is the binary of the other build, or "" for the floor. Beside the floor, Keymill
// has all that it does on the way of a request: metrics, a pinned verifier and the tags of records.
func startServers(against string) (*servers, error) {
	s := new(servers)
	if err := s.open(against); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *servers) open(against string) (err error) {
	if against != "" {
		if s.keymill, s.keymillTarget, err = startKeymill("", ""); err == nil {
			s.other, s.floorTarget, err = startKeymill(against, "")
		}
		return err
	}
	address, err := freeport.Address()
	if err != nil {
		return err
	}
	if s.keymill, s.keymillTarget, err = startKeymill("", "keys:\n  algorithms: [RS256, EdDSA, ES256]\nmetrics:\n  listen: "+address+"\n"); err != nil {
		return err
	}
	if _, err := pin(s.keymill, true); err != nil {
		return err
	}
	status, set, err := s.keymill.Get(context.Background(), "/.well-known/jwks.json")
	if err != nil || status != 200 {
		return fmt.Errorf("read the key set: status %d, %w", status, err)
	}
	return s.startFloor(len(set))
}

// startKeymill starts one as in production, with a configuration file, a master key and records that
// the operator's verbs add. more are lines of its configuration.
func startKeymill(binary, more string) (*server.Server, target, error) {
	s, err := server.New(server.Options{Config: "simplejwt:\n  client: bench-web\n" + more, Binary: binary})
	if err != nil {
		return nil, target{}, err
	}
	if err := s.Start(); err != nil {
		return s, target{}, err
	}
	a, err := addAccounts(s, strings.Contains(more, "ES256"))
	return s, target{address: strings.TrimPrefix(s.Issuer, "http://"), pid: s.PID(), accounts: a}, err
}

// addAccounts adds an audience for each algorithm, a client of all, a client for logins and a
// user.
func addAccounts(s *server.Server, ec bool) (a accounts, err error) {
	a.user, a.password = "bench-user", rand.Text()
	first, more := "version", ""
	if ec {
		first, more = "audience add "+audienceEC+" --alg ES256 --ttl 15m --scope read", " --audience "+audienceEC
	}
	for _, step := range []struct {
		line string
		in   string
		out  *server.Client
	}{
		{line: first},
		{line: "audience add " + audienceEd + " --alg EdDSA --ttl 15m --scope read"},
		{line: "audience add " + audienceRSA + " --alg RS256 --ttl 15m --scope read"},
		{line: "client add bench --grant client_credentials --audience " + audienceEd +
			" --audience " + audienceRSA + more + " --scope read --json", out: &a.service},
		{line: "client add bench-web --grant refresh_token --audience " + audienceEd +
			" --scope read --json", out: &a.web},
		{line: "user add " + a.user + " --password-stdin", in: a.password},
	} {
		out, errs, err := s.VerbWith(context.Background(), step.in, strings.Fields(step.line)...)
		if err != nil {
			return a, fmt.Errorf("keymill %s: %w: %s", step.line, err, errs)
		}
		if step.out == nil {
			continue
		}
		if err := json.Unmarshal([]byte(out), step.out); err != nil {
			return a, fmt.Errorf("answer of %s: %w", step.line, err)
		}
	}
	return a, nil
}

// startFloor starts this program a second time, as the floor.
func (s *servers) startFloor(bytes int) (err error) {
	// Its records are beside Keymill's, so that both use one file system.
	s.floor, s.floorTarget, err = launchFloor(s.keymillTarget.accounts, s.keymill.Dir, "-bytes", strconv.Itoa(bytes))
	return err
}

// launchFloor starts a floor that knows the accounts and has its records in dir. more are arguments of serveFloor.
func launchFloor(a accounts, dir string, more ...string) (*server.Companion, target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, target{}, err
	}
	address, err := freeport.Address()
	if err != nil {
		return nil, target{}, err
	}
	cmd := exec.Command(self, append([]string{"floor", "-listen", address, "-dir", dir,
		"-client", a.service.ID + ":" + a.service.Secret, "-client", a.web.ID + ":" + a.web.Secret}, more...)...)
	cmd.Env, cmd.Stderr = server.Environment(), os.Stderr
	floor, err := server.Launch(cmd)
	if err != nil {
		return nil, target{}, err
	}
	return floor, target{address: address, pid: cmd.Process.Pid, accounts: a}, awaitListener(address)
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
	var errs []error
	if s.floor != nil {
		errs = append(errs, s.floor.Close())
	}
	for _, k := range []*server.Server{s.other, s.keymill} {
		if k != nil {
			errs = append(errs, k.Close())
		}
	}
	return errors.Join(errs...)
}
