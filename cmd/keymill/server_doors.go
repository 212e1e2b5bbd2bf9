package main

import (
	"context"
	"slices"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint"
)

// lookAtDoors warns of a door whose client cannot log anybody in. It is no error: the client
// is added through the socket of this very server.
func (s *server) lookAtDoors(ctx context.Context) error {
	for _, door := range []struct{ key, client string }{
		{"simplejwt.client", s.config.DjangoClient}, {"session.client", s.config.SessionClient},
	} {
		if door.client == "" {
			continue
		}
		client, err := s.issuer.Client(ctx, door.client)
		if err != nil && !refusedAs(err, "not_found") {
			return err
		}
		if why, typed := shutDoor(door.client, client, err == nil, door.key == "simplejwt.client"); why != "" {
			s.log.Warn("nobody can log in at a door", "setting", door.key, "client", door.client, "reason", why, "type", typed)
		} else if !client.Public {
			s.log.Warn("a door asks for no secret", "setting", door.key, "client", door.client,
				"reason", "the client has one, and whoever logs in at the door never shows it",
				"type", "keymill client add NAME --public --grant refresh_token --audience AUDIENCE")
		}
	}
	return nil
}

// loginAdvice returns the command that makes the client of a login endpoint usable again.
func loginAdvice(u endpoint.UnusableClient) string {
	_, typed := shutDoor(u.ID, u.Client, u.Found, u.Endpoint == issuer.LoginSimpleJWT)
	if typed == "" {
		return ""
	}
	return "to fix it, run: " + typed
}

// shutDoor says why a client lets nobody in, and what to type, which takes nothing away
// that the client has. Where nobody can name an audience, the client must have just one.
func shutDoor(id string, client api.Client, there, oneAudience bool) (why, typed string) {
	word := shellWord(id)
	switch {
	case !there:
		return "there is no such client", "keymill client add " + word + " --public --grant refresh_token --audience AUDIENCE --origin https://app.example"
	case client.Disabled:
		return "the client is disabled", "keymill client enable " + word
	case !slices.Contains(client.Grants, "refresh_token"):
		return "the client has not the grant refresh_token", "keymill client set " + word + grantFlags(client)
	case len(client.Audiences) == 0:
		return "the client has no audience", "keymill client set " + word + " --audience AUDIENCE"
	case oneAudience && len(client.Audiences) > 1:
		return "the client has several audiences, and at this door nobody can say which one",
			"keymill client add NAME --public --grant refresh_token --audience AUDIENCE --origin https://app.example"
	}
	return "", ""
}

// grantFlags are the client's grants and refresh_token: what is typed replaces all.
func grantFlags(client api.Client) string {
	flags := ""
	for _, grant := range append(slices.Clone(client.Grants), "refresh_token") {
		flags += " --grant " + grant
	}
	return flags
}
