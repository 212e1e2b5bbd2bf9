package serve

import (
	"context"
	"slices"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint"
)

// checkLoginClients warns about a login endpoint whose client cannot log users in. This is
// not an error, because the operator can add the client only while the server runs.
func (s *server) checkLoginClients(ctx context.Context) error {
	for _, login := range []struct{ setting, client string }{
		{"simplejwt.client", s.config.SimpleJWTClient}, {"session.client", s.config.BrowserClient},
	} {
		if login.client == "" {
			continue
		}
		client, err := s.issuer.Client(ctx, login.client)
		if err != nil && !refusedAs(err, "not_found") {
			return err
		}
		if why, command := loginFault(login.client, client, err == nil, login.setting == "simplejwt.client"); why != "" {
			s.log.Warn("users cannot log in at a login endpoint", "setting", login.setting, "client", login.client, "reason", why, "type", command)
		} else if !client.Public {
			s.log.Warn("a login endpoint does not ask for the client's secret", "setting", login.setting, "client", login.client,
				"reason", "the client is confidential, and users who log in never present its secret",
				"type", "keymill client add NAME --public --grant refresh_token --audience AUDIENCE")
		}
	}
	return nil
}

// loginAdvice returns the command that makes the client of a login endpoint usable again.
// Package endpoint logs it if a login fails because of the client.
func loginAdvice(u endpoint.UnusableClient) string {
	_, command := loginFault(u.ID, u.Client, u.Found, u.Endpoint == issuer.LoginSimpleJWT)
	if command == "" {
		return ""
	}
	return "to fix it, run: " + command
}

// loginFault says why users cannot log in through a client, and which command fixes
// that without changing anything else of the client. At an endpoint where a login cannot name
// its audience (oneAudience), the client must have exactly one.
func loginFault(id string, client api.Client, exists, oneAudience bool) (why, command string) {
	word := terminal.ShellWord(id)
	switch {
	case !exists:
		return "the client does not exist", "keymill client add " + word + " --public --grant refresh_token --audience AUDIENCE --origin https://app.example"
	case client.Disabled:
		return "the client is disabled", "keymill client enable " + word
	case !slices.Contains(client.Grants, "refresh_token"):
		return "the client is not allowed the refresh_token grant", "keymill client set " + word + grantFlags(client)
	case len(client.Audiences) == 0:
		return "the client has no audience", "keymill client set " + word + " --audience AUDIENCE"
	case oneAudience && len(client.Audiences) > 1:
		return "the client has several audiences, and a login at this endpoint cannot name one",
			"keymill client add NAME --public --grant refresh_token --audience AUDIENCE --origin https://app.example"
	}
	return "", ""
}

// grantFlags returns flags for the client's grants and refresh_token. All are named,
// because "client set" replaces the whole list.
func grantFlags(client api.Client) string {
	flags := ""
	for _, grant := range append(slices.Clone(client.Grants), "refresh_token") {
		flags += " --grant " + grant
	}
	return flags
}
