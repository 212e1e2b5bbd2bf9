package issuer

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/audience"
	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/gone"
	"keymill/issuer/loginname"
	"keymill/issuer/loginterms"
	"keymill/issuer/names"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/issuer/sessionlist"
	"keymill/storage"
)

// References between records are updated in the transaction that changes one of them. All ids are
// in one index. For each audience and each origin the store has the number of clients that name it.

func idKey(id string) string       { return "id/" + id }
func originKey(name string) string { return "origin/" + name }

// checkIDUnused refuses the id of a client or user that exists.
func checkIDUnused(r storage.Reader, id string) error {
	taken, err := r.Get(idKey(id))
	switch {
	case err == nil:
		if err := checkKind(idKey(id), taken); err != nil {
			return err
		}
		return refusal.New("already_exists", "%s %s already exists", taken, id)
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	return nil
}

// leave removes an id from the index and notes the epoch that its client or user had at the end.
func (d decision) leave(id string, last uint64) error {
	return errors.Join(d.tx.Delete(idKey(id)), gone.Put(d.tx, id, last, d.now))
}

// reserveID enters an id into the index that clients and users share, or refuses it. It returns the
// first epoch of the client or user.
func (i *Issuer) reserveID(tx storage.Tx, id, kind string) (first uint64, err error) {
	if err := checkIDUnused(tx, id); err != nil {
		return 0, err
	}
	// The index alone does not decide: a lost entry must not let a new record replace another.
	if had, err := tx.GetAll(userKey(id), clientKey(id)); err != nil {
		return 0, err
	} else if had[0] != nil || had[1] != nil {
		return 0, storage.Damaged(idKey(id), "it is missing, although a client or a user has the id")
	}
	last, err := gone.Read(tx, id)
	if err != nil {
		return 0, err
	}
	first = epoch.Of(i.keys.WallTime())
	if last != nil {
		first = max(first, last.Epoch+1)
		err = tx.Delete(gone.Key(id)) // its entry in the index of the clean-up stays
	}
	return first, errors.Join(err, tx.Put(idKey(id), []byte(kind)))
}

// linkAudiences checks the audiences and scopes of after, and counts the clients of each audience.
// before is empty for a new client, after for one that is removed.
func (i *Issuer) linkAudiences(tx storage.Tx, before, after *clientRecord) error {
	known := map[string]bool{} // scope → an audience of the client has it
	was, is := before.Named(), after.Named()
	all, ahead := record.Distinct(slices.Concat(was, is)), record.NewAhead(tx)
	if err := ahead.Fetch(keysFrom(audience.Key, slices.DeleteFunc(slices.Clone(all), isNoAudience))...); err != nil {
		return err
	}
	for _, name := range all {
		if i.builtIn(name) != nil {
			if !i.adminAccepted && difference(was, is, name) > 0 {
				return refusal.New("invalid_request", "audience %s needs the setting admin.listen, which is empty", name)
			}
			continue // its clients are not counted
		}
		rec, err := i.readAudience(ahead, name)
		if r := (*refusal.Refusal)(nil); errors.As(err, &r) { // not_found is about the path of a request
			return refusal.New("invalid_request", "audience %s does not exist", refusal.Quoted(name))
		} else if err != nil {
			return err
		}
		change := difference(was, is, name)
		if slices.Contains(after.Audiences, name) {
			for _, s := range rec.Scopes {
				known[s] = true
			}
		}
		if change == 0 {
			continue
		}
		rec.Clients += change
		if err := record.PutJSON(tx, audience.Key(name), rec); err != nil {
			return err
		}
	}
	if slices.Contains(after.Audiences, adminscope.Audience) {
		return nil // adminscope.Check has checked the scopes
	}
	for _, s := range after.Scopes {
		if !known[s] {
			return refusal.New("invalid_request", "scope '%s' is not a scope of the client's audiences", refusal.Quoted(s))
		}
	}
	return nil
}

func isNoAudience(name string) bool { return !names.IsAudience(name) }

func keysFrom(key func(string) string, all []string) (keys []string) {
	for _, name := range all {
		keys = append(keys, key(name))
	}
	return keys
}

// countOrigins counts the clients of each origin.
func countOrigins(tx storage.Tx, before, after []string) error {
	all, w := record.Distinct(slices.Concat(before, after)), record.NewWriter(tx)
	if err := w.Fetch(keysFrom(originKey, all)...); err != nil {
		return err
	}
	for _, o := range all {
		change := difference(before, after, o)
		if change == 0 {
			continue
		}
		if err := record.AddCount(w, originKey(o), change); err != nil {
			return err
		}
	}
	return nil
}

// difference returns 1 if name is only in after, -1 if it is only in before, and 0 otherwise.
func difference(before, after []string, name string) int {
	n := 0
	if slices.Contains(after, name) {
		n++
	}
	if slices.Contains(before, name) {
		n--
	}
	return n
}

// Links are the references between one record and others, which the transactions keep. They are for
// keymill doctor, which compares them.
type Links struct {
	Needs   []string // keys of records that are there as long as this one is
	Unlike  string   // key of a record that should lead to this one and does not
	User    string   // id of the user of a session, who may have been removed
	Counted []string // keys of the counters that count this one
	Count   int      // of a counter

	Swept bool      // an entry in the index of the clean-up leads to it
	Due   string    // that entry of a session, unless damage has postponed it
	Leads string    // of an entry of that index: the key of the record that it leads to
	Or    string    // key of the record that may be there instead
	At    time.Time // when the clean-up looks at it
}

// References returns the links of a record; a damaged one has none.
func References(r storage.Reader, key string, raw []byte) (l Links) {
	if CheckRecord(key, raw) != nil {
		return l
	}
	kind, name, _ := strings.Cut(key, "/")
	switch kind {
	case "audience":
		rec, _ := audience.Decode(key, raw)
		l.Count = rec.Clients
	case "origin", "scheme":
		l.Count, _ = strconv.Atoi(string(raw))
	case "client":
		rec, _ := record.Decode(key, raw, (*clientRecord).Possible)
		l.Needs = []string{idKey(name)}
		l.count("audience/", slices.DeleteFunc(rec.Named(), func(name string) bool { return name == adminscope.Audience }))
		l.count("origin/", rec.Origins)
	case "user":
		rec, _ := record.Decode(key, raw, (*userRecord).possible)
		l.Needs = []string{idKey(name), loginname.Key(rec.Name)}
		if class := password.Class(rec.Password); class != "" {
			l.count("scheme/", []string{class})
		}
		if named, err := loginname.IDOf(r, rec.Name); err == nil && named != "" && named != name {
			l.Unlike = loginname.Key(rec.Name)
		}
	case "id":
		l.Needs = []string{string(raw) + "/" + name}
	case "login":
		l.Needs = []string{userKey(string(raw))}
	case "family":
		l.ofSession(r, key, raw)
	case "sessions":
		list, _ := sessionlist.Decode(key, raw)
		for _, id := range slices.Concat(list.Ended, list.Open) {
			l.Needs = append(l.Needs, familyKey(id))
		}
	case "denied", "gone", "tally":
		l.Swept = true
	case "due":
		l.ofEntry(key)
	}
	return l
}

func (l *Links) count(prefix string, names []string) {
	for _, name := range names {
		l.Counted = append(l.Counted, prefix+name)
	}
}

// ofSession sets the links of a session. The list in which it has to be follows from its terms.
func (l *Links) ofSession(r storage.Reader, key string, raw []byte) {
	rec, _ := decodeFamily(key, raw)
	id, _ := record.ParseID(strings.TrimPrefix(key, "family/"))
	l.Needs, l.User = []string{loginterms.Key(rec.terms), refreshtoken.SecretKey(rec.secret)}, rec.user
	l.Swept, l.Due = true, due.Key(rec.due, due.Family, id.String())
	terms, err := new(loginterms.Cache).Read(r, rec.terms)
	if err != nil {
		return
	}
	if list, err := sessionlist.Read(r, rec.user, terms.Client); err == nil && !list.Remove(id) {
		l.Unlike = sessionlist.Key(rec.user, terms.Client)
	}
}

// ofEntry sets the links of an entry of the index of the clean-up. That of a removed id stays if the id is
// used again.
func (l *Links) ofEntry(key string) {
	e, _ := due.Parse(key)
	l.At, l.Leads = e.At, e.Leads()
	if e.Kind == due.Gone {
		l.Or = idKey(e.ID)
	}
}
