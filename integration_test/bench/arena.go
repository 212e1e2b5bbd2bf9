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

// An arena is one Keymill and one floor, side by side, with clients that both know:
// the very same requests go to both.
type arena struct {
	keymill *server.Server
	floor   *server.Companion
	cast    cast

	serverSide, floorSide side
}

// A cast is who makes the requests.
type cast struct {
	service, web server.Client // with client_credentials, with refresh_token
	user         string
	password     string
}

// openArena starts both. Keymill runs as in production: a configuration file, a
// master key, records made by the operator's verbs.
func openArena() (*arena, error) {
	keymill, err := server.New(server.Options{Config: "simplejwt:\n  client: bench-web\n"})
	if err != nil {
		return nil, err
	}
	a := &arena{keymill: keymill}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *arena) open() error {
	if err := a.keymill.Start(); err != nil {
		return err
	}
	a.serverSide = side{strings.TrimPrefix(a.keymill.Issuer, "http://"), a.keymill.PID()}
	if err := a.enrol(); err != nil {
		return err
	}
	status, set, err := a.keymill.Get(context.Background(), "/.well-known/jwks.json")
	if err != nil || status != 200 {
		return fmt.Errorf("read the key set: status %d, %w", status, err)
	}
	return a.openFloor(len(set))
}

// enrol adds an audience for each algorithm, a client of both, and one through which a
// user logs in.
func (a *arena) enrol() error {
	a.cast.user, a.cast.password = "bench-user", rand.Text()
	for _, step := range []struct {
		line string
		in   string
		out  *server.Client
	}{
		{line: "audience add " + audienceEd + " --alg EdDSA --ttl 15m --scope read"},
		{line: "audience add " + audienceRSA + " --alg RS256 --ttl 15m --scope read"},
		{line: "client add bench --grant client_credentials --audience " + audienceEd +
			" --audience " + audienceRSA + " --scope read --json", out: &a.cast.service},
		{line: "client add bench-web --grant refresh_token --audience " + audienceEd +
			" --scope read --json", out: &a.cast.web},
		{line: "user add " + a.cast.user + " --password-stdin", in: a.cast.password},
	} {
		out, errs, err := a.keymill.VerbWith(context.Background(), step.in, strings.Fields(step.line)...)
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

// openFloor starts this program once more, as the floor.
func (a *arena) openFloor(bytes int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	address, err := server.FreeAddress()
	if err != nil {
		return err
	}
	// Its records lie beside Keymill's: one file system for both.
	cmd := exec.Command(self, "floor", "-listen", address, "-bytes", strconv.Itoa(bytes), "-dir", a.keymill.Dir,
		"-client", a.cast.service.ID+":"+a.cast.service.Secret, "-client", a.cast.web.ID+":"+a.cast.web.Secret)
	cmd.Env, cmd.Stderr = server.Environment(), os.Stderr
	if a.floor, err = server.Launch(cmd); err != nil {
		a.floor = nil
		return err
	}
	a.floorSide = side{address, cmd.Process.Pid}
	return awaitListener(address)
}

// awaitListener returns once somebody accepts connections at address.
func awaitListener(address string) error {
	var err error
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("nobody listens: %w", err)
}

func (a *arena) close() error {
	var err error
	if a.floor != nil {
		err = a.floor.Close()
	}
	return errors.Join(err, a.keymill.Close())
}
