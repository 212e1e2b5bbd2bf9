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
	"keymill/issuer/loginterms"
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

// linkAudiences checks the audiences and scopes of after, and counts the clients of each audience.
// before is empty for a new client, after for one that is removed.
func (i *Issuer) linkAudiences(tx storage.Tx, before, after *clientRecord) error {
	known := map[string]bool{} // scope → an audience of the client has it
	was, is := before.named(), after.named()
	for _, name := range record.Distinct(slices.Concat(was, is)) {
		if i.builtIn(name) != nil {
			if !i.adminAccepted && difference(was, is, name) > 0 {
				return refusal.New("invalid_request", "audience %s needs the setting admin.listen, which is empty", name)
			}
			continue // its clients are not counted
		}
		rec, err := i.readAudience(tx, name)
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
		if err := putJSON(tx, audience.Key(name), rec); err != nil {
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

// named returns the audiences that the client gets tokens for or introspects.
func (rec *clientRecord) named() []string {
	return record.Distinct(slices.Concat(rec.Audiences, rec.Introspect))
}

// countOrigins counts the clients of each origin.
func countOrigins(tx storage.Tx, before, after []string) error {
	for _, o := range record.Distinct(slices.Concat(before, after)) {
		change := difference(before, after, o)
		if change == 0 {
			continue
		}
		if err := record.AddCount(tx, originKey(o), change); err != nil {
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
		rec, _ := record.Decode(key, raw, (*clientRecord).possible)
		l.Needs = []string{idKey(name)}
		l.count("audience/", slices.DeleteFunc(rec.named(), func(name string) bool { return name == adminscope.Audience }))
		l.count("origin/", rec.Origins)
	case "user":
		rec, _ := record.Decode(key, raw, (*userRecord).possible)
		l.Needs = []string{idKey(name), loginKey(rec.Name)}
		if class := password.Class(rec.Password); class != "" {
			l.count("scheme/", []string{class})
		}
		if named, err := idOfName(r, rec.Name); err == nil && named != "" && named != name {
			l.Unlike = loginKey(rec.Name)
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
	l.At, l.Leads = e.At, map[string]string{due.Family: "family/", due.Token: "denied/", due.Gone: "gone/", due.Tally: "tally/"}[e.Kind]+e.ID
	if e.Kind == due.Gone {
		l.Or = idKey(e.ID)
	}
}
