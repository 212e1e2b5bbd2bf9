package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/text/unicode/norm"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// MaxImported is the limit for the users of one import request.
const MaxImported = 50

const importsAtOnce = 16 // the store commits parallel transactions together

// importUsers adds users of another system with their password hashes. Each user is a
// transaction of its own, so one that is refused does not stop the others. After a fault
// some of them may have been added; the same request then answers "already_exists" for those.
// With "dry_run" the users are only checked.
func (a *API) importUsers(r *http.Request, req api.ImportUsersRequest) (api.ImportResults, error) {
	if len(req.Users) == 0 || len(req.Users) > MaxImported {
		return api.ImportResults{}, refusal.New("invalid_request", "member 'users' must have 1 to %d users", MaxImported)
	}
	add := func(ctx context.Context, u api.ImportedUser) (api.User, error) {
		return a.cfg.Issuer.ImportUser(ctx, u, Actor(r))
	}
	if req.DryRun {
		add = a.cfg.Issuer.CheckUser
	}
	results := make([]api.ImportResult, len(req.Users))
	faults := make([]error, len(req.Users))
	slots := make(chan struct{}, importsAtOnce)
	done := make([]chan struct{}, len(req.Users))
	last := map[string]int{} // an id or a name → the user of the request that had it last
	var all sync.WaitGroup
	for n, raw := range req.Users {
		slots <- struct{}{}
		earlier := follows(raw, n, last)
		done[n] = make(chan struct{})
		all.Go(func() {
			defer func() { close(done[n]); <-slots }()
			for _, before := range earlier {
				<-done[before] // it has its slot already, so this ends
			}
			results[n], faults[n] = a.importUser(r.Context(), raw, add)
		})
	}
	all.Wait()
	return api.ImportResults{Results: results}, errors.Join(faults...)
}

// follows returns the earlier users of the request that may have the id or the name of user n. Of
// two users with one id the first is added, always: they are not added at the same time. Names are
// compared more coarsely than package issuer does, which costs only time.
func follows(raw []byte, n int, last map[string]int) (earlier []int) {
	var u api.ImportedUser
	if api.Decode(raw, &u) != nil {
		return nil
	}
	for _, key := range []string{"id " + u.ID, "name " + strings.ToLower(norm.NFKC.String(u.Name))} {
		if before, ok := last[key]; ok && key != "id " {
			earlier = append(earlier, before)
		}
		last[key] = n
	}
	return earlier
}

// An addUser adds a user, or only checks whether that is possible.
type addUser func(context.Context, api.ImportedUser) (api.User, error)

func (a *API) importUser(ctx context.Context, raw []byte, add addUser) (result api.ImportResult, fault error) {
	// The router recovers only panics of the goroutine that serves the request.
	defer func() {
		if p := recover(); p != nil {
			fault = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	var u api.ImportedUser
	err := api.Decode(raw, &u)
	result.ID, result.Name = u.ID, u.Name
	if err == nil {
		var added api.User
		if added, err = add(ctx, u); err == nil {
			result.ID, result.Name, result.Scheme = added.ID, added.Name, added.Scheme
			return result, nil
		}
		err = a.sameUser(ctx, u, err)
	}
	var refused *refusal.Refusal
	if errors.As(err, &refused) {
		result.Code, result.Description = refused.Code, refused.Description
		return result, nil
	}
	return result, err
}

// sameUser changes "already_exists" to "conflict" unless the existing user has the same id
// and name. A caller may ignore only the first: that user was imported before.
func (a *API) sameUser(ctx context.Context, u api.ImportedUser, err error) error {
	var refused *refusal.Refusal
	if !errors.As(err, &refused) || refused.Code != "already_exists" {
		return err
	}
	existing, fault := a.cfg.Issuer.User(ctx, "id:"+u.ID)
	if fault == nil && existing.ID == u.ID && existing.Name == u.Name {
		return err
	}
	return refusal.New("conflict", "%s", refused.Description)
}
