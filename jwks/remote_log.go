package jwks

import (
	"errors"
	"log/slog"
	"time"
)

// A remoteState is what an operator has to know about a Remote. A later one is worse.
type remoteState int

const (
	remoteWorks remoteState = iota
	remoteAges              // the last attempt failed, and the last set is still used
	remoteEmpty             // there is no set to use: every token is refused
)

// state returns the state after an attempt that ended at now.
func (r *record) state(now time.Time, maxStale time.Duration) remoteState {
	switch {
	case r.err == nil:
		return remoteWorks
	case !r.usable(now, maxStale):
		return remoteEmpty
	case r.unconfirmed():
		return remoteWorks
	}
	return remoteAges
}

// unconfirmed reports whether the last attempt, and none before it, got a set without a usable
// key. The next attempt, after the cooldown, confirms that this is an outage.
func (r *record) unconfirmed() bool {
	var noKey *noKeyError
	return r.failures == 1 && errors.As(r.err, &noKey)
}

// logPause is the least time between two lines about the same bad state, so that an issuer that
// answers every second request does not fill the log.
const logPause = time.Minute

// A remoteLog writes one line when the state of a Remote changes, and nothing for a single attempt
// or token. A Remote that works from the start says nothing. Only the loop uses it.
type remoteLog struct {
	logger *slog.Logger // nil: the default one at the time of the line
	issuer slog.Attr
	told   remoteState
	since  time.Time                  // when told was no longer remoteWorks
	lines  [remoteEmpty + 1]time.Time // when each state was told last
}

func newRemoteLog(c RemoteConfig) remoteLog {
	source := slog.String("issuer", c.Issuer)
	if c.Issuer == "" {
		source = slog.String("url", shown(c.URL))
	}
	return remoteLog{logger: c.Log, issuer: source}
}

// tell logs the state after the last attempt if the last line said something else.
func (l *remoteLog) tell(now time.Time, last *record, maxStale time.Duration) {
	state := last.state(now, maxStale)
	if state == l.told || state > l.told && !l.lines[state].IsZero() && now.Sub(l.lines[state]) < logPause {
		return
	}
	if l.told == remoteWorks {
		l.since = now
	}
	l.told, l.lines[state] = state, now
	log := l.logger
	if log == nil {
		log = slog.Default()
	}
	switch state {
	case remoteWorks:
		log.Info("jwks: the key set is fetched again", l.issuer, "keys", len(last.set.keys), "after", now.Sub(l.since).Round(time.Second))
	case remoteAges:
		log.Warn("jwks: cannot fetch the key set; the last one is used for now", l.issuer,
			"until", now.Add(last.lifetime-elapsed(last.sent, now)+maxStale).UTC().Truncate(time.Second), "error", last.err)
	case remoteEmpty:
		log.Error("jwks: no usable key set; requests with tokens are refused", l.issuer, "error", last.err)
	}
}
