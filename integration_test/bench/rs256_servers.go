package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// The rs256Servers are a Keymill that signs with libcrypto, and those that it is compared with.
type rs256Servers struct {
	server     *server.Server
	companions []*server.Companion

	keymill target
	rivals  map[string]target // by their names in the table
}

// buildLibcrypto builds the program as scripts/release does for systems with glibc.
func buildLibcrypto() (path string, remove func() error, err error) {
	root, err := server.Root()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "keymill-libcrypto-")
	if err != nil {
		return "", nil, err
	}
	path, remove = filepath.Join(dir, "keymill"), func() error { return os.RemoveAll(dir) }
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "libcrypto", "-o", path, "./cmd/keymill")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", nil, errors.Join(fmt.Errorf("build keymill with libcrypto: %w\n%s", err, out), remove())
	}
	return path, remove, nil
}

// startRS256 returns what it has started, also with an error.
func startRS256(binary string) (s *rs256Servers, err error) {
	s = &rs256Servers{rivals: map[string]target{}}
	address, err := freeport.Address()
	if err != nil {
		return s, err
	}
	if s.server, s.keymill, err = startKeymill(binary, "keys:\n  rsa: libcrypto\nmetrics:\n  listen: "+address+"\n"); err != nil {
		return s, err
	}
	if err := wantLibcrypto(address); err != nil {
		return s, err
	}
	// The refresh asks for RS256. A client for logins has one audience.
	if _, errs, err := s.server.VerbWith(context.Background(), "", "client", "set", "bench-web", "--audience", audienceRSA); err != nil {
		return s, fmt.Errorf("keymill client set: %w: %s", err, errs)
	}
	for name, more := range map[string][]string{goFloor: nil, libcryptoFloor: {"-libcrypto"}} {
		dir := filepath.Join(s.server.Dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return s, err
		}
		floor, t, err := launchFloor(s.keymill.accounts, dir, more...)
		if err := s.add(name, floor, t, err); err != nil {
			return s, err
		}
	}
	provider, t, err := startProvider(s.keymill.accounts)
	return s, s.add(oidcProvider, provider, t, err)
}

// wantLibcrypto asks the metrics at address whether libcrypto signs.
func wantLibcrypto(address string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return err
	}
	status, text, err := get(request)
	if err != nil {
		return err
	}
	if status != http.StatusOK || !strings.Contains(string(text), "\nkeymill_rsa_libcrypto 1\n") {
		return fmt.Errorf("libcrypto does not sign, as the metrics of the server say (status %d); keymill doctor says why", status)
	}
	return nil
}

func (s *rs256Servers) add(name string, c *server.Companion, t target, err error) error {
	if c != nil {
		s.companions = append(s.companions, c)
	}
	s.rivals[name] = t
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

// startProvider starts oidc-provider, with the client that has client_credentials.
func startProvider(a accounts) (*server.Companion, target, error) {
	root, err := server.Root()
	if err != nil {
		return nil, target{}, err
	}
	dir := filepath.Join(root, "integration_test", "bench", "oidc-provider")
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		return nil, target{}, fmt.Errorf("%w: run scripts/install-deps", err)
	}
	address, err := freeport.Address()
	if err != nil {
		return nil, target{}, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, target{}, err
	}
	cmd := exec.Command("node", "server.mjs", port, a.service.ID, a.service.Secret, resource, tokenScope)
	cmd.Dir, cmd.Env = dir, append(server.Environment(), "NODE_ENV=production")
	provider, err := server.Launch(cmd)
	if err != nil {
		return nil, target{}, err
	}
	return provider, target{address: address, pid: cmd.Process.Pid, accounts: a}, awaitListener(address)
}

const resource = "https://bench.example.com/rs256"

// resourceCaller asks for the same token as tokenCaller does, in the words of RFC 8707.
func resourceCaller(t target) caller {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {t.accounts.service.ID}, "client_secret": {t.accounts.service.Secret},
		"resource": {resource}, "scope": {tokenScope},
	}
	return always(post(t.address, "/token", formType, form.Encode()))
}

func (s *rs256Servers) close() error {
	var errs []error
	for _, c := range s.companions {
		errs = append(errs, c.Close())
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	return errors.Join(errs...)
}
