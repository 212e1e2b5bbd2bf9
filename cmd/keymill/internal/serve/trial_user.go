package serve

import (
	"context"
	"crypto/rand"
	"encoding/base64"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// trialUserName logs in at the login endpoints of a trial server.
const trialUserName = "dev"

// A Django project that trusts a trial server takes the user for the row with the same id. Row 1
// is usually the superuser, and other small ids belong to other users. No project has so many
// users that it reaches this id, which fits a column of 32 bits.
const (
	trialUserID = "2000000000"
	superuserID = "1" // of the user in trial stores of earlier versions
)

// seedUser adds the user, or gives it a new password if the known one is lost or no longer
// valid, as after an operator's passwd. It compares the times at which the password was
// set: trying the password would leave a session behind at each start.
func seedUser(ctx context.Context, iss *issuer.Issuer, known TrialUser) (TrialUser, error) {
	made := TrialUser{Name: trialUserName, ID: trialUserID, Password: newTrialPassword()}
	u, err := iss.AddUser(ctx, api.NewUser{
		ID: made.ID, Name: made.Name, Password: refusal.Secret(made.Password),
	}, "system")
	if refusedAs(err, "already_exists") {
		if u, err = iss.User(ctx, trialUserName); refusedAs(err, "not_found") {
			return TrialUser{}, nil // an operator has given the id to another user
		} else if err != nil {
			return made, err
		}
		if u.ID == superuserID {
			if err := iss.RemoveUser(ctx, "id:"+superuserID, "system"); err != nil {
				return made, err
			}
			return seedUser(ctx, iss, TrialUser{})
		}
		if known.Password != "" && known.Changed != nil && u.PasswordChanged != nil && known.Changed.Equal(*u.PasswordChanged) {
			return known, nil
		}
		u, err = iss.SetPassword(ctx, trialUserName, refusal.Secret(made.Password), "system")
	}
	made.ID, made.Changed = u.ID, u.PasswordChanged
	return made, err
}

// newTrialPassword returns 144 random bits in 24 characters.
func newTrialPassword() string {
	b := make([]byte, 18)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
