package verifiers

import (
	"slices"
	"time"

	"keymill/issuer/api"
	"keymill/jwks"
)

const (
	writeEvery = time.Minute    // of one verifier, at most; p on a shared store
	maxUnsaved = 12 * time.Hour // by which the time of a record is out of date
)

// A pinned verifier. Only the fields below served change, and Registry.mu owns them.
type pinned struct {
	name  string
	tag   tag
	added time.Time

	kids   *kidList // that it was served last; nil if it never was
	last   time.Time
	lastUp time.Duration // last, as served time
	habit  habit

	changed bool      // the kids are not stored yet
	stored  time.Time // last as it is stored
	written time.Time // when that was written
	damaged bool      // the stored record is damaged: nothing is written over it
}

// A moment is a time of two clocks of keystore. The decision time says when something was. It jumps over the time in
// which no server ran, and with a wall clock that is set. The served time does not, so it says for how long a verifier
// could have come.
type moment struct {
	at time.Time     // decision time, see keystore.Rings.Times
	up time.Duration // served time
}

// served notes a visit.
func (p *pinned) served(visit moment, kids *kidList) {
	now := visit.at
	if now.Before(p.last) {
		now = p.last // another visit was noted first, or the record was written shortly before a crash
	}
	if p.kids == nil {
		p.changed = true
	} else {
		p.habit.add(now.Sub(p.last))
		if p.kids != kids && !slices.Equal(*p.kids, *kids) {
			p.changed = true
		}
	}
	p.kids, p.last, p.lastUp = kids, now, max(p.lastUp, visit.up)
}

// window is how long after its last visit a rotation waits for it.
func (p *pinned) window(maxAge time.Duration) time.Duration { return 2 * max(maxAge, p.habit.usual()) }

func (p *pinned) cameLately(now moment, maxAge time.Duration) bool {
	return p.kids != nil && now.up-p.lastUp <= p.window(maxAge)
}

// blocks reports whether a rotation to the key waits for it.
func (p *pinned) blocks(kid string, now moment, maxAge time.Duration) bool {
	return !p.kids.has(kid) && p.cameLately(now, maxAge)
}

// waitedUntil returns when a rotation to the key no longer waits for it, if it does not come and the server runs on;
// nil if it does not wait now.
func (p *pinned) waitedUntil(kid string, now moment, maxAge time.Duration) *time.Time {
	if !p.blocks(kid, now, maxAge) {
		return nil
	}
	// In whole seconds, as the times of records are.
	down := (now.at.Sub(p.last) - (now.up - p.lastUp)).Round(time.Second)
	return instant(p.last.Add(p.window(maxAge) + down))
}

// due reports whether its record is to be written. It is written once in every at most.
func (p *pinned) due(now time.Time, every, maxAge time.Duration) bool {
	switch {
	case p.kids == nil || p.damaged || !p.written.IsZero() && now.Before(p.written.Add(every)):
		return false
	case p.changed:
		return true
	}
	return p.last.Sub(p.stored) >= min(maxUnsaved, p.window(maxAge)/4)
}

// unsaved reports whether its record is older than memory.
func (p *pinned) unsaved() bool {
	return p.kids != nil && !p.damaged && (p.changed || !p.stored.Equal(p.last.Truncate(time.Second)))
}

func (p *pinned) lastVisit() *time.Time {
	if p.kids == nil {
		return nil
	}
	return instant(p.last)
}

// instant returns t as people see it.
func instant(t time.Time) *time.Time {
	t = t.UTC().Truncate(time.Second)
	return &t
}

// A published is what is needed of the keys to say who is behind.
type published struct {
	now    moment
	kids   []string // of the published set, sorted
	spares []string // kids of those that do not sign yet
}

func (p *pinned) show(url string, maxAge time.Duration, keys published) api.Verifier {
	credential := p.name + "." + string(p.tag[:])
	v := api.Verifier{
		Name: p.name, Added: *instant(p.added), Credential: credential, URL: url + "?" + jwks.VerifierParameter + "=" + credential,
		Last: p.lastVisit(), Served: p.kids.all(), Missing: p.kids.missing(keys.kids),
	}
	if usual := p.habit.usual(); usual > 0 {
		v.Usual = usual.String()
	}
	for _, kid := range keys.spares {
		if until := p.waitedUntil(kid, keys.now, maxAge); until != nil {
			v.Waited, v.WaitedUntil = true, until
		}
	}
	return v
}
