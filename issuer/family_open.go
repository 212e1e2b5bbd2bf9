package issuer

import (
	"errors"
	"maps"
	"net/netip"
	"time"

	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/loginterms"
	"keymill/issuer/refusal"
	"keymill/issuer/tally"
	"keymill/storage"
	"keymill/storage/audit"
)

// Why a refresh token is refused, for the log. Clients never see it.
var (
	errNoSession       = refusal.Because("unknown_session", "the session does not exist or belongs to another client")
	errTokenReused     = errors.New("the token was used before, and the session ends")
	errRightsReduced   = refusal.Because("client_not_allowed", "the client is no longer allowed a scope of the session, or any of its audiences")
	errGrantNotAllowed = refusal.Because("client_not_allowed", "the client is no longer allowed the refresh_token grant")
)

// A family is a record with everything that decides about it, read in one transaction.
type family struct {
	id      familyID
	rec     *familyRecord
	terms   *loginterms.Terms // that the login agreed on
	user    *userRecord       // nil if the user was removed
	client  *clientRecord     // nil if the client was removed
	current epochs            // as they are now
}

// family reads a family without its client, which the caller has. It returns nil if there is no
// record.
func (i *Issuer) family(r storage.Reader, id familyID) (*family, error) {
	rec, err := i.readFamily(r, id)
	if rec == nil || err != nil {
		return nil, err
	}
	f := &family{id: id, rec: rec}
	if f.terms, err = i.terms.Read(r, rec.terms); err != nil {
		return nil, err
	}
	if rec.scopes>>len(f.terms.Scopes) != 0 {
		return nil, storage.Damaged(familyKey(id), "it has scopes that its login did not have")
	}
	if f.user, err = i.findUser(r, rec.user); err != nil {
		return nil, err
	}
	if f.user != nil {
		f.current.user = f.user.Epoch
	}
	f.current.store, err = epoch.Read(r)
	return f, err
}

// familyWithClient reads a family and its client.
func (i *Issuer) familyWithClient(r storage.Reader, id familyID) (*family, error) {
	f, err := i.family(r, id)
	if f == nil || err != nil {
		return nil, err
	}
	f.client, err = i.findClient(r, f.terms.Client)
	return f, err
}

// state returns the state of the family at now. A family is outdated if its user or client was
// removed or is disabled, because each of these moves an epoch.
func (f *family) state(now time.Time, l Lifetimes) familyState {
	if f.user == nil || f.client == nil || f.user.Disabled || f.client.Disabled {
		return stateOutdated
	}
	f.current.client = f.client.Epoch
	return f.rec.state(now, f.current, l)
}

// granted returns the scopes that the login agreed on, sorted.
func (f *family) granted() []string { return f.terms.Names(f.rec.scopes) }

func (f *family) detail(from netip.Addr) map[string]string {
	d := map[string]string{"user": f.rec.user, "client": f.terms.Client}
	if from.IsValid() {
		d["from"] = from.String()
	}
	return d
}

// end ends a family for good, in the transaction that decides it. more is added to the audit record.
func (i *Issuer) end(d decision, f *family, e ending, more map[string]string) error {
	f.rec.end, f.rec.endedAt = e, d.now
	if err := d.tx.Delete(due.Key(f.rec.due, due.Family, f.id.String())); err != nil {
		return err
	}
	if e == endedByLimit {
		f.rec.due = d.now.Add(keepEvicted)
	}
	if err := putFamily(d.tx, f); err != nil {
		return err
	}
	detail := f.detail(d.from)
	maps.Copy(detail, more)
	var err error
	if action := "session." + endings[e].name; e == endedByAdmin {
		err = d.audit(action, f.id.String(), detail)
	} else {
		err = i.auditOnce(d, f.tally(), audit.Event{Action: action, Target: f.id.String(), Detail: detail})
	}
	return errors.Join(err, i.notifyEnd(d, f, e))
}

// endUnlessEnded ends a family that is not in a permanent state. A family that has expired must be
// ended as well: otherwise a longer lifetime of its client would make it live again.
func (i *Issuer) endUnlessEnded(d decision, f *family, e ending) error {
	if f.client == nil || f.state(d.now, i.lifetimes(f.client, f.rec.endpoint)).permanent() {
		return nil
	}
	return i.end(d, f, e, nil)
}

// tally says with whose events those of the family are counted.
func (f *family) tally() tally.Of { return tally.Of{User: f.rec.user, Client: f.terms.Client} }

// keepEvicted is how long a session is kept, to explain it, after a newer one has taken its place.
const keepEvicted = 24 * time.Hour

// notifyEnd adds a webhook event if a token has two holders or a session was ended. It adds none
// for a session that was ended because of the session limit.
func (i *Issuer) notifyEnd(d decision, f *family, e ending) error {
	kind := "session.revoked"
	switch {
	case e == endedByLimit:
		return nil
	case endings[e].replay:
		kind = "session.replayed"
	}
	return i.notify(d, kind, map[string]string{
		"session_id": f.id.String(), "user_id": f.rec.user, "client_id": f.terms.Client, "reason": endings[e].name,
	})
}
