package issuer

import (
	"errors"
	"net/netip"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

// Why a refresh token is refused, for the log. None of it reaches the client.
var (
	errNoFamily = errors.New("there is no such family of this client")
	errEnded    = errors.New("the family has ended")
	errSpent    = errors.New("the token was spent before: the family ends")
	errNarrowed = errors.New("the client has lost a scope or every audience of the family")
	errNoGrant  = errors.New("the client has lost the grant refresh_token")
)

// A family is a record together with what decides about it, read in one transaction.
type family struct {
	id      familyID
	rec     *familyRecord
	terms   *terms
	user    *userRecord   // nil if the user was removed
	client  *clientRecord // nil if the client was removed
	current epochs        // as they are now
}

// family reads all of it but the client, which comes from its own check; nil if there is no
// record.
func (i *Issuer) family(r storage.Reader, id familyID) (*family, error) {
	rec, err := readFamily(r, id)
	if rec == nil || err != nil {
		return nil, err
	}
	f := &family{id: id, rec: rec}
	if f.terms, err = i.terms.read(r, rec.terms); err != nil {
		return nil, err
	}
	if f.user, err = i.findUser(r, rec.user); err != nil {
		return nil, err
	}
	if f.user != nil {
		f.current.user = f.user.Epoch
	}
	f.current.store, err = readStoreEpoch(r)
	return f, err
}

// wholeFamily is family with the client.
func (i *Issuer) wholeFamily(r storage.Reader, id familyID) (*family, error) {
	f, err := i.family(r, id)
	if f == nil || err != nil {
		return nil, err
	}
	f.client, err = i.knownClient(r, f.terms.Client)
	return f, err
}

// knownClient returns nil without an error if there is no such client. Nobody may change
// what it returns.
func (i *Issuer) knownClient(r storage.Reader, id string) (*clientRecord, error) {
	raw, err := getClient(r, id)
	if raw == nil || err != nil {
		return nil, err
	}
	return i.clients.read(clientKey(id), raw)
}

// fate: a family whose user or client is gone, disabled or not what it was is dead, since
// each of these moves an epoch.
func (f *family) fate(now time.Time, l Lifetimes) demise {
	if f.user == nil || f.client == nil || f.user.Disabled || f.client.Disabled {
		return byEpoch
	}
	f.current.client = f.client.Epoch
	return f.rec.fate(now, f.current, l)
}

// granted are the scopes that the login agreed on, sorted.
func (f *family) granted() []string { return f.terms.names(f.rec.scopes) }

// actor is who an audit record says it was.
func (f *family) actor() string { return "client:" + f.terms.Client }

func (f *family) detail(from netip.Addr) map[string]string {
	d := map[string]string{"user": f.rec.user, "client": f.terms.Client}
	if from.IsValid() {
		d["from"] = from.String()
	}
	return d
}

// end ends a family for good, in the transaction that decided it.
func (i *Issuer) end(tx storage.Tx, f *family, e ending, now time.Time, by string, from netip.Addr) error {
	f.rec.end, f.rec.endedAt = e, now
	if err := tx.Put(familyKey(f.id), f.rec.encode()); err != nil {
		return err
	}
	if e == endedByLimit {
		// Whoever logs in again and again could otherwise fill the disk with such records.
		if err := tx.Put(dueKey(now.Add(keepEvicted), dueFamily, f.id.String()), dueMark); err != nil {
			return err
		}
	}
	detail := f.detail(from)
	name := endings[e].name
	err := audit.Append(tx, now, audit.Event{Action: "session." + name, By: by, Target: f.id.String(), Detail: detail})
	if err != nil {
		return err
	}
	return i.notifyEnd(tx, f, e, now)
}

// keepEvicted is how long a family that made room for a newer one can be explained.
const keepEvicted = 24 * time.Hour

// notifyEnd tells the webhook what it is for: a token in two hands, or a session that was
// ended. One that made room for the user's own next one is neither.
func (i *Issuer) notifyEnd(tx storage.Tx, f *family, e ending, now time.Time) error {
	kind := "session.revoked"
	switch e {
	case endedByLimit:
		return nil
	case endedLateRetry, endedReplay, endedRolledBack:
		kind = "session.replayed"
	}
	return i.notify(tx, now, kind, map[string]string{
		"session_id": f.id.String(), "user_id": f.rec.user, "client_id": f.terms.Client, "reason": endings[e].name,
	})
}
