package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// devUserName logs in at the doors of a trial server.
const devUserName = "dev"

type devUser struct {
	Name     string     `json:"username"`
	ID       string     `json:"user_id"`
	Password string     `json:"password"`
	Changed  *time.Time `json:"password_changed"` // when Password became the user's
}

func (d devCredentials) user(name string) devUser {
	for _, u := range d.Users {
		if u.Name == name {
			return u
		}
	}
	return devUser{}
}

// seedUser makes the user, or a new password for it if the one in the file is lost or is not
// the user's any more, as after an operator's passwd. The instant tells: to try it would
// leave a session behind at each start.
func seedUser(ctx context.Context, iss *issuer.Issuer, known devCredentials) (devUser, error) {
	made := devUser{Name: devUserName, ID: "1", Password: newDevPassword()}
	u, err := iss.AddUser(ctx, api.NewUser{
		ID: made.ID, Name: made.Name, Password: refusal.Secret(made.Password),
	}, "system")
	if refusedAs(err, "already_exists") {
		if u, err = iss.User(ctx, devUserName); refusedAs(err, "not_found") {
			return devUser{}, nil // an operator has given its id to somebody else
		} else if err != nil {
			return made, err
		}
		old := known.user(devUserName)
		if old.Password != "" && old.Changed != nil && u.PasswordChanged != nil && old.Changed.Equal(*u.PasswordChanged) {
			return old, nil
		}
		u, err = iss.SetPassword(ctx, devUserName, refusal.Secret(made.Password), "system")
	}
	made.ID, made.Changed = u.ID, u.PasswordChanged
	return made, err
}

// newDevPassword returns 144 random bits in 24 characters.
func newDevPassword() string {
	b := make([]byte, 18)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
