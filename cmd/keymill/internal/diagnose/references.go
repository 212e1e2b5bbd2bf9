package diagnose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/storage"
	"keymill/storage/audit"
)

// A linkCheck compares all records with those that refer to them. What it finds are records that something
// other than this program has deleted or put back. A reference that a removal leaves behind is none: the
// sessions of a user who was removed stay until their end, and so does the entry in the index of the
// clean-up of an id that is used again.
type linkCheck struct {
	store storage.Store
	now   time.Time // of the clean-up

	read     int
	damaged  bool              // some records were not read, so their references are not known
	missing  map[string]string // key → why it should be there
	unlike   map[string]string // key of a record that exists → what it should refer to and does not
	unled    map[string]bool   // keys of records to which no entry of the clean-up leads
	counters map[string]int    // key → its number
	counted  map[string]int    // key → how many records it counts
	users    map[string]string // id of a user without a record → a session of the user
}

// checkReferences finds records that are missing although others need them, in a store whose tags are
// checked. now is the time of the clean-up. If records are damaged, what they refer to is not known.
func (d *Doctor) checkReferences(ctx context.Context, now time.Time, damaged bool) {
	c := newLinkCheck()
	c.store, c.now, c.damaged = d.records, now, damaged
	for _, step := range []func(context.Context) error{c.readAll, c.readIndex, c.excuseRemoved} {
		if err := step(ctx); err != nil {
			d.findings.add("references", "", err)
			return
		}
	}
	d.findings.add("references", terminal.Count(c.read, "record")+", and what they refer to is there", c.result())
}

func newLinkCheck() *linkCheck {
	return &linkCheck{
		missing: map[string]string{}, unlike: map[string]string{}, unled: map[string]bool{},
		counters: map[string]int{}, counted: map[string]int{}, users: map[string]string{},
	}
}

func (c *linkCheck) readAll(ctx context.Context) error {
	return eachRecord(ctx, c.store, "", "", func() page {
		some := newLinkCheck()
		return page{func(r storage.Reader, e storage.Entry, damage error) error {
			some.read++
			if damage != nil {
				return nil // it was named before
			}
			return some.look(r, e)
		}, func() { c.add(some) }}
	})
}

// add adds what a page has found.
func (c *linkCheck) add(some *linkCheck) {
	c.read += some.read
	maps.Copy(c.missing, some.missing)
	maps.Copy(c.unlike, some.unlike)
	maps.Copy(c.unled, some.unled)
	maps.Copy(c.counters, some.counters)
	maps.Copy(c.users, some.users)
	for key, n := range some.counted {
		c.counted[key] += n
	}
}

// look compares one record with those that it refers to.
func (c *linkCheck) look(r storage.Reader, e storage.Entry) error {
	l := issuer.References(r, e.Key, e.Value)
	for _, key := range l.Needs {
		if found, err := there(r, key); err != nil {
			return err
		} else if !found {
			c.missing[key] = e.Key + " needs it"
		}
	}
	if l.Unlike != "" {
		c.unlike[l.Unlike] = e.Key
	}
	for _, key := range l.Counted {
		c.counted[key]++
	}
	if l.Count > 0 {
		c.counters[e.Key] = l.Count
	}
	if l.User != "" {
		if found, err := there(r, "user/"+l.User); err != nil {
			return err
		} else if !found {
			c.users[l.User] = e.Key
		}
	}
	if l.Swept {
		found, err := there(r, l.Due)
		if err != nil {
			return err
		}
		if !found {
			c.unled[e.Key] = true // readIndex looks for another entry
		}
	}
	return nil
}

// readIndex reads the index of the clean-up.
func (c *linkCheck) readIndex(ctx context.Context) error {
	return eachRecord(ctx, c.store, "due/", "due0", func() page {
		var led []string
		missing := map[string]string{}
		return page{func(r storage.Reader, e storage.Entry, _ error) error {
			l := issuer.References(r, e.Key, e.Value)
			led = append(led, l.Leads)
			if !c.owed(l) {
				return nil
			}
			for _, key := range []string{l.Leads, l.Or} {
				if found, err := there(r, key); found || err != nil {
					return err
				}
			}
			missing[l.Leads] = e.Key + " leads to it"
			return nil
		}, func() {
			maps.Copy(c.missing, missing)
			for _, key := range led {
				delete(c.unled, key)
			}
		}}
	})
}

// owed reports whether the record to which an entry of the index leads must be there. A session is deleted
// with its own entry, and damage can leave another one. A tally is deleted up to a second before its last
// entry.
func (c *linkCheck) owed(l issuer.Links) bool {
	switch kind, _, _ := strings.Cut(l.Leads, "/"); kind {
	case "", "family":
		return false
	case "tally":
		return l.At.After(c.now.Add(time.Minute))
	}
	return true
}

// excuseRemoved looks for the users of sessions who have no record: an administrator removed them, or
// something else did.
func (c *linkCheck) excuseRemoved(ctx context.Context) error {
	q := audit.Query{Filter: audit.Filter{Action: "user.remove"}, Forward: true, Limit: recordsPerView}
	for more := len(c.users) > 0; more; {
		p, err := audit.Read(ctx, c.store, q)
		if err != nil {
			return err
		}
		for _, r := range p.Records {
			delete(c.users, r.Target)
		}
		q.From, more = p.Next, p.More
	}
	for id, session := range c.users {
		if key := "user/" + id; c.missing[key] == "" {
			c.missing[key] = session + " is a session of this user, whom no administrator removed"
		}
	}
	return nil
}

// result names the first ten of all that is wrong.
func (c *linkCheck) result() error {
	var wrong []string
	for _, key := range slices.Sorted(maps.Keys(c.missing)) {
		wrong = append(wrong, fmt.Sprintf("%s is missing: %s", key, c.missing[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(c.unlike)) {
		wrong = append(wrong, fmt.Sprintf("%s does not lead to %s", key, c.unlike[key]))
	}
	for _, key := range slices.Sorted(maps.Keys(c.unled)) {
		wrong = append(wrong, key+" has no entry in the index of the clean-up (due/)")
	}
	if !c.damaged {
		wrong = append(wrong, c.miscounted()...)
	}
	if len(wrong) == 0 {
		return nil
	}
	words := strings.Join(wrong[:min(len(wrong), maxDamaged)], "; ")
	if len(wrong) > maxDamaged {
		words += "; …"
	}
	return fmt.Errorf("records that do not fit together: %d (%s); something other than Keymill has removed records or put older ones back: restore a backup as a whole", len(wrong), words)
}

// miscounted returns the counters that count other records than there are.
func (c *linkCheck) miscounted() (wrong []string) {
	for key := range c.counted {
		c.counters[key] += 0 // one that is missing counts none
	}
	for _, key := range slices.Sorted(maps.Keys(c.counters)) {
		if n := c.counters[key]; n != c.counted[key] {
			wrong = append(wrong, fmt.Sprintf("%s counts %d instead of %d", key, n, c.counted[key]))
		}
	}
	return wrong
}

// there reports whether there is a record, whole or damaged.
func there(r storage.Reader, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	_, err := r.Get(key)
	switch {
	case err == nil, errors.Is(err, storage.ErrDamaged):
		return true, nil
	case errors.Is(err, storage.ErrNotFound):
		return false, nil
	}
	return false, err
}
