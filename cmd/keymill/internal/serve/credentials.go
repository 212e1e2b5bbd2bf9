package serve

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// Credentials is the content of DIR/dev-credentials: what is needed to be a client or the
// user of a trial server.
type Credentials struct {
	Issuer  string        `json:"issuer"`
	Clients []TrialClient `json:"clients"`
	Users   []TrialUser   `json:"users"`
}

// A TrialClient is a client of a trial server.
type TrialClient struct {
	ID       string `json:"client_id"`
	Secret   string `json:"client_secret,omitempty"` // "" if the client is public
	Audience string `json:"audience"`
}

// A TrialUser is a user of a trial server.
type TrialUser struct {
	Name     string     `json:"username"`
	ID       string     `json:"user_id"`
	Password string     `json:"password"`
	Changed  *time.Time `json:"password_changed"` // when Password was set
}

// maxCredentialsBytes is far more than --dev writes.
const maxCredentialsBytes = 64 << 10

// ReadCredentials reads the file dev-credentials. An error that it is missing matches
// fs.ErrNotExist.
func ReadCredentials(path string) (Credentials, error) {
	var c Credentials
	raw, err := namedfile.ReadRegular(path, maxCredentialsBytes)
	if err != nil {
		return c, err
	}
	// An operator may have opened and saved the file in an editor.
	if raw, err = terminal.DecodeText(raw); err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, terminal.WithHint(fmt.Errorf("%s is not a file that --dev wrote", path), "remove it: the next start creates new secrets")
	}
	return c, nil
}

// Secret returns the secret of a client, or "".
func (c Credentials) Secret(id string) string {
	for _, client := range c.Clients {
		if client.ID == id {
			return client.Secret
		}
	}
	return ""
}

// IsPublic reports whether id is a client of the trial server that has no secret.
func (c Credentials) IsPublic(id string) bool {
	return slices.ContainsFunc(c.Clients, func(client TrialClient) bool { return client.ID == id && client.Secret == "" })
}

// User returns the user of that name, or the zero TrialUser.
func (c Credentials) User(name string) TrialUser {
	for _, u := range c.Users {
		if u.Name == name {
			return u
		}
	}
	return TrialUser{}
}
