package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/tlsfiles"
	"keymill/cmd/keymill/internal/trialca"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage/durable"
)

// trialAudiences and trialClients are what every trial server has.
func trialAudiences() []api.Audience {
	scopes := []string{"read", "write"}
	return []api.Audience{
		{Name: "dev-api", Alg: "EdDSA", TTL: "15m0s", Scopes: scopes, Profile: "rfc9068"},
		{Name: "dev-django", Alg: "RS256", TTL: "15m0s", Scopes: scopes, Profile: "simplejwt"},
	}
}

func trialClients(issuerURL string) []api.NewClient {
	service := func(id, audience string) api.NewClient {
		return api.NewClient{
			ID: id, Grants: []string{"client_credentials"},
			Audiences: []string{audience}, Scopes: []string{"read", "write"},
		}
	}
	web := api.NewClient{
		ID: "dev-web", Public: true, Grants: []string{"refresh_token"},
		Audiences: []string{"dev-django"}, Scopes: []string{"read", "write"},
		Origins: trialOrigins(issuerURL),
	}
	return []api.NewClient{service("dev-service", "dev-api"), service("dev-django-service", "dev-django"), web}
}

// trialOrigins returns the origins of the development servers of Next.js and Vite on the issuer's
// site. 127.0.0.1 and localhost are two sites, so only pages of the issuer's own host keep its cookie.
func trialOrigins(issuerURL string) (list []string) {
	u, err := url.Parse(issuerURL)
	if err != nil {
		return nil // config has checked it
	}
	for _, port := range []string{"3000", "5173"} {
		list = append(list, u.Scheme+"://"+net.JoinHostPort(u.Hostname(), port))
	}
	return list
}

// trialMasterKey returns the trial store's own master key, and creates it if there is no
// store yet. A store without the key beside it was not created by --dev.
func trialMasterKey(c *config.Config) (keystore.MasterKey, error) {
	path := c.Path("dev-master-key")
	key, err := c.ReadMasterKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, err := os.Stat(c.Path("keymill.db")); !errors.Is(err, fs.ErrNotExist) {
		return key, terminal.WithHint(fmt.Errorf("%s holds a store that --dev did not create", c.Data),
			"serve it without --dev, or choose another directory with --data DIR")
	}
	key, line := keystore.NewMasterKey()
	return key, durable.Replace(path, line)
}

// trialTLS makes the certificate of a trial server, and returns what presents it.
func trialTLS(c *config.Config, log *slog.Logger) (*tlsfiles.Keeper, error) {
	u, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, err
	}
	replaced, err := trialca.Make(c.Data, u.Hostname(), time.Now(), func(path string) ([]byte, error) { return c.ReadSecretFile("key of the trial CA", path) })
	if err != nil {
		return nil, err
	}
	if replaced {
		log.Warn("made a new trial CA, because the earlier one was near its end or had no key: other programs must be told to trust it", "file", c.Path(trialca.CAFile))
	}
	with := *c
	with.TLSCertFile, with.TLSKeyFile = c.Path(trialca.CertFile), c.Path(trialca.KeyFile)
	return tlsfiles.Open(&with, log)
}

// seed creates the audiences, clients and users that are missing, through the calls that
// an operator's commands use, and writes dev-credentials.
func seed(ctx context.Context, c *config.Config, iss *issuer.Issuer) error {
	audiences, err := seedAudiences(ctx, c, iss)
	if err != nil {
		return err
	}
	known, err := ReadCredentials(c.Path("dev-credentials"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made := Credentials{Issuer: c.Issuer}
	for _, want := range trialClients(c.Issuer) {
		if !slices.Contains(audiences, want.Audiences[0]) {
			continue
		}
		client, err := seedClient(ctx, iss, want, known.Secret(want.ID))
		if err != nil {
			return fmt.Errorf("client %s: %w", want.ID, err)
		}
		made.Clients = append(made.Clients, client)
	}
	user, err := seedUser(ctx, iss, known.User(trialUserName))
	if err != nil {
		return fmt.Errorf("user %s: %w", trialUserName, err)
	}
	if user.Name != "" {
		made.Users = []TrialUser{user}
	}
	raw, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return err
	}
	return durable.Replace(c.Path("dev-credentials"), append(raw, '\n'))
}

// seedAudiences returns the names of the audiences whose algorithm is configured. The
// others are left out, and so are their clients.
func seedAudiences(ctx context.Context, c *config.Config, iss *issuer.Issuer) (names []string, err error) {
	for _, a := range trialAudiences() {
		if !slices.Contains(c.Algorithms, a.Alg) {
			continue
		}
		names = append(names, a.Name)
		if _, err := iss.AddAudience(ctx, a, "system"); err != nil && !refusedAs(err, "already_exists") {
			return nil, fmt.Errorf("audience %s: %w", a.Name, err)
		}
	}
	return names, nil
}

// seedClient adds a client. If it exists already, it keeps the known secret as long as
// that works, and gets a new one otherwise: a crash between adding the client and writing
// the file loses the secret, and an operator's rotate-secret makes it invalid.
func seedClient(ctx context.Context, iss *issuer.Issuer, want api.NewClient, secret string) (TrialClient, error) {
	made := TrialClient{ID: want.ID, Secret: secret, Audience: want.Audiences[0]}
	client, err := iss.AddClient(ctx, want, "system")
	if refusedAs(err, "already_exists") {
		if want.Public {
			return made, upgradeClient(ctx, iss, want)
		}
		invalid, err := secretIsInvalid(ctx, iss, made)
		if err != nil || !invalid {
			return made, err
		}
		if client, err = iss.RotateSecret(ctx, want.ID, 0, "system"); err != nil {
			return made, err
		}
	} else if err != nil {
		return made, err
	}
	made.Secret = string(client.Secret)
	return made, nil
}

// upgradeClient gives the public client of a store that an earlier version created the grant that
// it did not have, and the origins of this issuer if it has those of another one or of an earlier
// version. Any other origins are the operator's choice.
func upgradeClient(ctx context.Context, iss *issuer.Issuer, want api.NewClient) error {
	have, err := iss.Client(ctx, want.ID)
	if err != nil || !have.Public {
		return err
	}
	upgraded := slices.Contains(have.Grants, "refresh_token")
	if upgraded && !presetOrigins(have.Origins) {
		return nil
	}
	change, origins := api.ClientChange{}, append(have.Origins, want.Origins...)
	change.Origins = &origins
	if !upgraded {
		change.Grants = &want.Grants
	}
	_, err = iss.SetClient(ctx, want.ID, change, "system")
	return err
}

// presetOrigins reports whether the origins, sorted, are those with which some version created its
// client.
func presetOrigins(list []string) bool {
	earlier := []string{"http://127.0.0.1:5173", "http://localhost:3000", "http://localhost:5173"}
	return slices.Equal(list, earlier) || slices.ContainsFunc([]string{"127.0.0.1", "localhost", "[::1]"}, func(host string) bool {
		return slices.Equal(list, trialOrigins("http://"+host)) || slices.Equal(list, trialOrigins("https://"+host))
	})
}

// secretIsInvalid asks for a token as the client would. Other refusals say nothing about
// the secret: at a start the keys may not sign yet, and a disabled client is refused with
// any secret.
func secretIsInvalid(ctx context.Context, iss *issuer.Issuer, c TrialClient) (bool, error) {
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

// trialHosts lists the Host headers that a trial server answers. A page on the web that
// points its own name at loopback (DNS rebinding) gets 421.
func (s *server) trialHosts() []string {
	if !s.config.Dev {
		return nil
	}
	var hosts []string
	for _, l := range []net.Listener{s.public, s.monitor} {
		if l == nil {
			continue
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		hosts = append(hosts, l.Addr().String())
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			hosts = append(hosts, net.JoinHostPort(name, port))
		}
	}
	if u, err := url.Parse(s.config.Issuer); err == nil {
		hosts = append(hosts, u.Host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
