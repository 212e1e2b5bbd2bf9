// Package keychange rotates and revokes keys through the admin API. A rotation can wait until the server
// allows it, and a revocation can be watched until no pinned verifier holds the key. Both go on while the
// server restarts.
package keychange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/verifierlist"
	"keymill/issuer/api"
)

// A Rotation is one run of the command "key rotate".
type Rotation struct {
	Server *adminapi.Client
	Alg    string
	Force  bool
	Flush  bool          // the reserve signs
	Wait   time.Duration // how long to wait if the server refuses; 0: not at all
	Errs   io.Writer     // gets what is waited for

	before  string    // the kid that signed at the beginning
	asked   time.Time // when the server was last asked to rotate
	about   string    // the spare at that time
	refused error     // what it said
	unknown bool      // the answer was lost, and the keys were not seen since
	lost    bool      // an answer was lost, so a rotation that is seen later may be its
	spare   api.Key   // as it was listed last
	reserve string    // the kid that was the reserve then; "" without one
}

// Run rotates the key. If the server still refuses when the time is over, it returns the refusal.
func (r *Rotation) Run(ctx context.Context) (api.Rotation, error) {
	if r.Wait == 0 {
		done, err := r.ask(ctx)
		return done, withWays(err)
	}
	keys, err := r.list(ctx)
	switch {
	case ctx.Err() != nil:
		return api.Rotation{}, r.interrupted()
	case err != nil:
		return api.Rotation{}, err
	}
	r.before = r.staged(keys, "active").KID
	return r.wait(ctx)
}

func (r *Rotation) ask(ctx context.Context) (api.Rotation, error) {
	body := api.RotateKeyRequest{Alg: r.Alg, Force: r.Force, Flush: r.Flush}
	done, _, err := adminapi.Ask[api.Rotation](ctx, r.Server, http.MethodPost, "keys/rotate", body)
	return done, err
}

func (r *Rotation) list(ctx context.Context) ([]api.Key, error) {
	keys, _, err := adminapi.Ask[[]api.Key](ctx, r.Server, http.MethodGet, "keys", nil)
	return keys, err
}

// staged returns the key of the ring in that stage; its KID is "" if there is none.
func (r *Rotation) staged(keys []api.Key, stage string) api.Key {
	n := slices.IndexFunc(keys, func(k api.Key) bool { return k.Alg == r.Alg && k.Stage == stage })
	if n < 0 {
		return api.Key{}
	}
	return keys[n]
}

func (r *Rotation) wait(ctx context.Context) (api.Rotation, error) {
	begun := time.Now()
	end := begun.Add(r.Wait)
	l := newLine(r.Errs)
	defer l.end()
	for {
		last := !time.Now().Before(end)
		done, err := r.try(ctx, last)
		switch {
		case err == nil:
			l.end()
			return done, r.explain(done)
		case ctx.Err() != nil:
			return done, r.interrupted()
		case last || !passes(err):
			return done, withWays(err)
		}
		short, long := r.reason(err)
		left := time.Until(end).Round(time.Second)
		l.show(share{int64(time.Since(begun)), int64(r.Wait)}, fmt.Sprintf("%v left: %s", left, short), "waiting: "+long)
		if !sleep(ctx, min(pollEvery, max(time.Until(end), 0))) {
			return done, r.interrupted()
		}
	}
}

// try looks at the keys, and asks for the rotation if it can succeed, or the last time. A request to rotate whose answer
// was lost is never simply repeated: if the server has rotated, it would rotate again.
func (r *Rotation) try(ctx context.Context, last bool) (api.Rotation, error) {
	keys, err := r.list(ctx)
	if err != nil {
		return api.Rotation{}, err
	}
	flushed := r.reserve
	r.spare, r.reserve = r.staged(keys, "spare"), r.staged(keys, "reserve").KID
	now := r.staged(keys, "active")
	if r.Flush && now.KID != flushed {
		r.before = now.KID // a rotation to the spare flushes nothing, so the command goes on
	}
	if now.KID != "" && now.KID != r.before {
		return api.Rotation{Alg: r.Alg, KID: now.KID, Previous: r.before, Sign: now.Sign, Spare: r.spare.KID}, nil
	}
	r.unknown = false
	if !last && !r.due(time.Now()) {
		return api.Rotation{}, r.refused
	}
	r.asked, r.about = time.Now(), r.spare.KID
	done, err := r.ask(context.WithoutCancel(ctx)) // an interruption leaves no doubt about what was done
	if err == nil {
		r.before = done.KID
		return done, nil
	}
	r.refused = err
	r.unknown = !errors.As(err, new(*adminapi.Error))
	r.lost = r.lost || r.unknown
	return done, err
}

const (
	askAgain = 2 * time.Minute // whatever the keys look like
	askSoon  = 2 * time.Second
)

// due reports whether the server may allow the rotation now. A refused rotation is a line of its log, so the command looks at
// the keys and does not ask each second.
func (r *Rotation) due(now time.Time) bool {
	var refused *adminapi.Error
	since := now.Sub(r.asked)
	switch {
	case since < askSoon:
		return false
	case since >= askAgain || r.spare.KID != r.about || !errors.As(r.refused, &refused):
		return true
	case refused.Code == "not_ready":
		return refused.At == nil || !now.Before(*refused.At)
	case refused.Code == "not_served":
		names, _ := r.waitedFor()
		return len(names) == 0
	case refused.Code == "no_reserve":
		return r.reserve != ""
	}
	return false
}

// waitedFor returns the names of the pinned verifiers that were not served the spare yet, and until when the server waits
// for them at most.
func (r *Rotation) waitedFor() (names []string, until *time.Time) {
	if r.spare.Reach == nil {
		return nil, nil
	}
	for _, b := range r.spare.Reach.Behind {
		if b.Waited {
			names = append(names, b.Name)
			if until == nil || b.WaitedUntil != nil && b.WaitedUntil.After(*until) {
				until = b.WaitedUntil
			}
		}
	}
	return names, until
}

// passes reports whether an error can end by itself: a refusal of the schedule, for a verifier or without a reserve, and a server that
// restarts.
func passes(err error) bool {
	var refused *adminapi.Error
	if !errors.As(err, &refused) {
		return true
	}
	return slices.Contains([]string{"not_ready", "not_served", "no_reserve", "unavailable"}, refused.Code)
}

// reason says what is waited for, in a few words and in all.
func (r *Rotation) reason(err error) (short, long string) {
	var refused *adminapi.Error
	switch names, until := r.waitedFor(); {
	case !errors.As(err, &refused):
		return "the server does not answer", "the server does not answer: " + terminal.Plain(err)
	case refused.Code == "not_served" && len(names) > 0:
		list := verifierlist.Names(names)
		return list, fmt.Sprintf("for verifiers that were not served the spare (at most until %s): %s", terminal.FormatTime(until), list)
	case refused.Code == "not_ready" && refused.At != nil:
		return "until " + terminal.FormatTime(refused.At), err.Error()
	}
	return err.Error(), err.Error()
}

// explain warns if the ring changed without a request of this command.
func (r *Rotation) explain(done api.Rotation) error {
	if done.KID != r.before && !r.lost {
		terminal.Warn(r.Errs, "another command or the schedule changed the key that signs with %s; this command did not rotate", r.Alg)
	}
	return nil
}

func (r *Rotation) interrupted() error {
	if r.unknown {
		return terminal.WithHint(errors.New("interrupted; the server did not say whether it rotated the key"), "keymill key list")
	}
	return errors.New("interrupted; the key was not rotated")
}

// withWays adds to a refusal of the server what the operator can do.
func withWays(err error) error {
	var refused *adminapi.Error
	if !errors.As(err, &refused) {
		return err
	}
	switch {
	case refused.Code == "no_reserve":
		return terminal.WithHint(err, "repeat the command in some seconds, or let it wait with --wait 1m")
	case refused.Code == "not_served":
		return terminal.WithHint(err, "repeat the command later, let it wait with --wait 1h, or rotate now with --force; "+
			"to forget one that is gone: keymill verifier remove NAME")
	case refused.Code == "not_ready" && refused.At == nil:
		return terminal.WithHint(err, "no spare is published yet; try again in a moment, or let the command wait with --wait 1h")
	case refused.Code == "not_ready":
		wait := max(0, time.Until(*refused.At)).Truncate(time.Second) + time.Second
		return terminal.WithHint(err, "wait %v, let the command wait with --wait %s, or rotate now with --force", wait, minutes(wait))
	}
	return err
}

// minutes writes a duration that is at least as long, as a person types it.
func minutes(d time.Duration) string {
	n := int((d + time.Minute - 1) / time.Minute)
	if n%60 == 0 {
		return fmt.Sprintf("%dh", n/60)
	}
	return fmt.Sprintf("%dm", n)
}

// PrintRotation writes what a rotation did.
func PrintRotation(w io.Writer, r api.Rotation) error {
	t := terminal.NewTable(w)
	if r.Sign != nil && r.Sign.After(time.Now()) {
		t.Row("signs next:", r.KID, r.Alg+", from "+terminal.FormatTime(r.Sign)+" on every server")
	} else {
		t.Row("signs now:", r.KID, r.Alg+", since "+terminal.FormatTime(r.Sign))
	}
	t.Row("retires:", terminal.OrDash(r.Previous), "published until its last token has expired")
	if r.Spare == "" {
		t.Row("spare:", "-", "published when that key begins to sign")
	} else {
		t.Row("spare:", r.Spare, "published, signs next")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.UnknownUntil != nil {
		if _, err := fmt.Fprintf(w, "services with a cached key set may refuse its tokens until %s\n", terminal.FormatTime(r.UnknownUntil)); err != nil {
			return err
		}
	}
	return printEnd(w, r.MissingNodes, r.Note)
}

// printEnd names the servers that do not know of a change yet, and what a flush costs, if there was one.
func printEnd(w io.Writer, missing []string, note string) error {
	if len(missing) > 0 {
		_, err := fmt.Fprintf(w, "not read yet by: %s; they sign nothing until they have read the change\n", terminal.OneLine(strings.Join(missing, ", ")))
		if err != nil {
			return err
		}
	}
	if note == "" {
		return nil
	}
	_, err := fmt.Fprintln(w, "note: "+terminal.OneLine(note))
	return err
}
