package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
)

// devCredentials is DIR/dev-credentials: all that is needed to be a client or the user of a
// trial server. It is the one place where secrets are kept in the clear, and --dev the one mode
// that prints them.
type devCredentials struct {
	Issuer  string      `json:"issuer"`
	Clients []devClient `json:"clients"`
	Users   []devUser   `json:"users"`
}

type devClient struct {
	ID       string `json:"client_id"`
	Secret   string `json:"client_secret,omitempty"` // none if public
	Audience string `json:"audience"`
}

// devAudiences and devClients are what every trial server has.
func devAudiences() []api.Audience {
	scopes := []string{"read", "write"}
	return []api.Audience{
		{Name: "dev-api", Alg: "EdDSA", TTL: "15m0s", Scopes: scopes, Profile: "rfc9068"},
		{Name: "dev-django", Alg: "RS256", TTL: "15m0s", Scopes: scopes, Profile: "simplejwt"},
	}
}

func devClients() []api.NewClient {
	service := func(id, audience string) api.NewClient {
		return api.NewClient{
			ID: id, Grants: []string{"client_credentials"},
			Audiences: []string{audience}, Scopes: []string{"read", "write"},
		}
	}
	web := api.NewClient{
		ID: "dev-web", Public: true, Grants: []string{"refresh_token"},
		Audiences: []string{"dev-django"}, Scopes: []string{"read", "write"},
		// Where the development servers of Vite and of Next.js serve pages from.
		Origins: []string{"http://localhost:5173", "http://localhost:3000", "http://127.0.0.1:5173"},
	}
	return []api.NewClient{service("dev-service", "dev-api"), service("dev-django-service", "dev-django"), web}
}

// devMasterKey returns the trial store's own master key, and makes it together with the
// store. A store without the key beside it was not made by --dev.
func devMasterKey(c *config) (keystore.MasterKey, error) {
	path := c.path("dev-master-key")
	key, err := masterKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, err := os.Stat(c.path("keymill.db")); !errors.Is(err, fs.ErrNotExist) {
		return key, hint(fmt.Errorf("%s holds a store that --dev did not make", c.Data),
			"serve it without --dev, or choose another directory with --data DIR")
	}
	key, line := keystore.NewMasterKey()
	return key, writeSecretFile(path, line)
}

// seed makes what is missing, through the same calls as an operator's. Secrets are made
// anew for a client whose secret is not in the file, as after a crash between the two, or
// no longer proves it, as after an operator's rotate-secret.
func seed(ctx context.Context, c *config, iss *issuer.Issuer) error {
	var audiences []string
	for _, a := range devAudiences() {
		if !slices.Contains(c.Algorithms, a.Alg) {
			continue // keys.algorithms leaves it out, and with it its clients
		}
		audiences = append(audiences, a.Name)
		if _, err := iss.AddAudience(ctx, a, "system"); err != nil && !refusedAs(err, "already_exists") {
			return fmt.Errorf("audience %s: %w", a.Name, err)
		}
	}
	known, err := readDevCredentials(c.path("dev-credentials"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made := devCredentials{Issuer: c.Issuer}
	for _, want := range devClients() {
		if !slices.Contains(audiences, want.Audiences[0]) {
			continue
		}
		client, err := seedClient(ctx, iss, want, known.secret(want.ID))
		if err != nil {
			return fmt.Errorf("client %s: %w", want.ID, err)
		}
		made.Clients = append(made.Clients, client)
	}
	user, err := seedUser(ctx, iss, known)
	if err != nil {
		return fmt.Errorf("user %s: %w", devUserName, err)
	}
	if user.Name != "" {
		made.Users = []devUser{user}
	}
	raw, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return err
	}
	return writeSecretFile(c.path("dev-credentials"), append(raw, '\n'))
}

func seedClient(ctx context.Context, iss *issuer.Issuer, want api.NewClient, secret string) (devClient, error) {
	made := devClient{ID: want.ID, Secret: secret, Audience: want.Audiences[0]}
	client, err := iss.AddClient(ctx, want, "system")
	if refusedAs(err, "already_exists") {
		if want.Public {
			return made, renew(ctx, iss, want)
		}
		dead, asking := isDead(ctx, iss, made)
		if asking != nil || !dead {
			return made, asking
		}
		client, err = iss.RotateSecret(ctx, want.ID, 0, "system")
	}
	if err != nil {
		return made, err
	}
	made.Secret = string(client.Secret)
	return made, nil
}

// renew brings the public client of a store that an earlier version made up to date: it had
// no grant. One that has the grant is the operator's to change.
func renew(ctx context.Context, iss *issuer.Issuer, want api.NewClient) error {
	there, err := iss.Client(ctx, want.ID)
	if err != nil || !there.Public || slices.Contains(there.Grants, "refresh_token") {
		return err
	}
	origins := append(there.Origins, want.Origins...)
	_, err = iss.SetClient(ctx, want.ID, api.ClientChange{Grants: &want.Grants, Origins: &origins}, "system")
	return err
}

// isDead asks for a token as the client would. Only what the secret itself can be blamed
// for counts: at a start the keys may not sign yet, and a client that was disabled is
// refused whatever it shows.
func isDead(ctx context.Context, iss *issuer.Issuer, c devClient) (bool, error) {
	if c.Secret == "" {
		return true, nil
	}
	_, err := iss.Token(ctx, issuer.TokenRequest{
		GrantType: "client_credentials",
		Client:    issuer.Credentials{ClientID: c.ID, Secret: refusal.Secret(c.Secret), Method: "client_secret_basic"},
		Audience:  c.Audience,
	})
	if !refusedAs(err, "invalid_client") {
		return false, nil
	}
	client, err := iss.Client(ctx, c.ID)
	return !client.Disabled, err
}

func refusedAs(err error, code string) bool {
	var r *refusal.Refusal
	return errors.As(err, &r) && r.Code == code
}

func readDevCredentials(path string) (devCredentials, error) {
	var d devCredentials
	raw, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, hint(fmt.Errorf("%s is not what --dev wrote", path), "remove it: the next start makes new secrets")
	}
	return d, nil
}

func (d devCredentials) secret(id string) string {
	for _, c := range d.Clients {
		if c.ID == id {
			return c.Secret
		}
	}
	return ""
}

// devHosts are the Host headers that a trial server answers: a page on the web that
// points its own name at loopback (DNS rebinding) gets 421.
func (s *server) devHosts() []string {
	if !s.config.dev {
		return nil
	}
	_, port, _ := net.SplitHostPort(s.public.Addr().String())
	hosts := []string{s.public.Addr().String()}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		hosts = append(hosts, net.JoinHostPort(name, port))
	}
	if u, err := url.Parse(s.config.Issuer); err == nil {
		hosts = append(hosts, u.Host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// shellWord quotes s where a shell would take it apart.
func shellWord(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:@,", r)
	}) < 0
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
