package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func (s *Server) listUsers(w http.ResponseWriter, r *http.Request) error {
	after, limit, err := readPage(r)
	if err != nil {
		return err
	}
	list, err := s.cfg.Issuer.Users(r.Context(), after, limit)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) addUser(w http.ResponseWriter, r *http.Request) error {
	var u api.NewUser
	err := readMembers(w, r, members{
		"username": &u.Name, "user_id": &u.ID, "password": &u.Password,
		"claims": &u.Claims, "disabled": &u.Disabled,
	})
	if err != nil {
		return err
	}
	shown, err := s.cfg.Issuer.AddUser(r.Context(), u, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, shown)
}

func (s *Server) showUser(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "user")
	if err != nil {
		return err
	}
	u, err := s.cfg.Issuer.User(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, u)
}

func (s *Server) setUser(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "user")
	if err != nil {
		return err
	}
	var c api.UserChange
	if err := readMembers(w, r, members{"disabled": &c.Disabled, "claims": &c.Claims}); err != nil {
		return err
	}
	u, err := s.cfg.Issuer.SetUser(r.Context(), name, c, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, u)
}

func (s *Server) setPassword(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "user")
	if err != nil {
		return err
	}
	var password refusal.Secret
	if err := readMembers(w, r, members{"password": &password}); err != nil {
		return err
	}
	u, err := s.cfg.Issuer.SetPassword(r.Context(), name, password, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, u)
}

func (s *Server) logoutUser(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "user")
	if err != nil {
		return err
	}
	u, err := s.cfg.Issuer.LogoutUser(r.Context(), name, actor(r))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, u)
}

func (s *Server) removeUser(w http.ResponseWriter, r *http.Request) error {
	name, err := readName(r, "user")
	if err != nil {
		return err
	}
	if err := s.cfg.Issuer.RemoveUser(r.Context(), name, actor(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

const (
	maxImported   = 50 // users of one request
	importsAtOnce = 16 // the store lets them share a commit
)

// An imported says what became of one user. Code is "" if it was made, "already_exists"
// if it was there, and "conflict" if its id or name is another's.
type imported struct {
	ID   string `json:"user_id"`
	Name string `json:"username"`
	Code string `json:"error"`
	Hint string `json:"error_description,omitempty"`
}

// importUsers takes users of another system with their hashes. Each is a transaction of
// its own, so that one that is refused stops no other. After a fault some may be there;
// whoever asks again reads "already_exists" for those. With "dry_run" each is only checked.
func (s *Server) importUsers(w http.ResponseWriter, r *http.Request) error {
	var users []json.RawMessage
	var dry bool
	if err := readMembers(w, r, members{"users": &users, "dry_run": &dry}); err != nil {
		return err
	}
	put := func(ctx context.Context, u api.ImportedUser) (api.User, error) {
		return s.cfg.Issuer.ImportUser(ctx, u, actor(r))
	}
	if dry {
		put = func(ctx context.Context, u api.ImportedUser) (api.User, error) {
			return api.User{ID: u.ID, Name: u.Name}, s.cfg.Issuer.CheckUser(ctx, u)
		}
	}
	if len(users) == 0 || len(users) > maxImported {
		return refusal.New("invalid_request", "member 'users' must hold 1 to %d users", maxImported)
	}
	results := make([]imported, len(users))
	faults := make([]error, len(users))
	turns := make(chan struct{}, importsAtOnce)
	var all sync.WaitGroup
	for n, raw := range users {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			results[n], faults[n] = s.importUser(r.Context(), raw, put)
		})
	}
	all.Wait()
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"results": results})
}

// A putUser makes a user, or only says whether that would do.
type putUser func(context.Context, api.ImportedUser) (api.User, error)

func (s *Server) importUser(ctx context.Context, raw []byte, put putUser) (result imported, fault error) {
	// The edge survives panics of its own goroutine only.
	defer func() {
		if p := recover(); p != nil {
			fault = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	var u api.ImportedUser
	err := decodeStrict(raw, members{
		"user_id": &u.ID, "username": &u.Name, "hash": &u.Hash,
		"disabled": &u.Disabled, "claims": &u.Claims,
	})
	if err == nil {
		var made api.User
		made, err = s.addImported(ctx, u, put)
		u.ID, u.Name = made.ID, made.Name
	}
	result = imported{ID: u.ID, Name: u.Name}
	var refused *refusal.Refusal
	if errors.As(err, &refused) {
		result.Code, result.Hint = refused.Code, refused.Hint
		return result, nil
	}
	return result, err
}

// addImported tells a user that was imported before from one whose place is taken: only
// the first may be passed over in silence.
func (s *Server) addImported(ctx context.Context, u api.ImportedUser, put putUser) (api.User, error) {
	given := api.User{ID: u.ID, Name: u.Name}
	made, err := put(ctx, u)
	var refused *refusal.Refusal
	if err == nil {
		return made, nil
	}
	if !errors.As(err, &refused) || refused.Code != "already_exists" {
		return given, err
	}
	there, asked := s.cfg.Issuer.User(ctx, "id:"+u.ID)
	if asked == nil && there.ID == u.ID && there.Name == u.Name {
		return given, err
	}
	return given, refusal.New("conflict", "%s", refused.Hint)
}
