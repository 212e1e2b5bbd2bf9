package admin

import (
	"cmp"
	"encoding/hex"
	"net/http"
	"reflect"
	"strings"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/site"
	"keymill/issuer/profile"
	"keymill/issuer/refusal"
)

// A replacement has the operations of which a PUT consists. Each is one transaction.
type replacement[T any] struct {
	show func() (T, error)
	tag  func(T) string
	add  func() (T, error)
	set  func(current T, only ...api.Condition) (T, error) // current is what show returned
}

// maxPutAttempts ends a PUT that others overtake again and again. Each time one of them succeeds.
const maxPutAttempts = 100

// put replaces an entry, or adds it. What is decided by the entry that show returned is done only if the
// entry is still the same, so two administrators cannot mix their states.
func (p replacement[T]) put(only api.Condition) (answer T, status int, err error) {
	taken := false
	for range maxPutAttempts {
		current, err := p.show()
		switch code := refusal.CodeOf(err); {
		case code == "not_found":
			if err := only.Check(""); err != nil {
				return answer, 0, err
			}
			added, err := p.add()
			if refusal.CodeOf(err) != "already_exists" || taken {
				return added, http.StatusCreated, err
			}
			taken = true // by the same entry, which show then finds, or by another one
			continue
		case err != nil:
			return answer, 0, err
		}
		taken = false
		answer, err = p.set(current, only, api.Only(p.tag(current)))
		if refusal.CodeOf(err) != "precondition_failed" || only.Check(p.tag(current)) != nil {
			return answer, http.StatusOK, err
		}
	}
	return answer, 0, refusal.New("precondition_failed", "the entry changes all the time; try again")
}

// A stored is an answer with a status of its own, or with a Link to the next page.
type stored struct {
	answer any
	status int
	next   string
}

// replacing returns an Operation that puts a whole entry.
func replacing[B, T any](parameter Parameter, h func(r *http.Request, name string, body B) (replacement[T], error)) Operation {
	o := namedWithBody(parameter, func(r *http.Request, name string, body B) (any, error) {
		only, err := condition(r)
		if err != nil {
			return nil, err
		}
		p, err := h(r, name, body)
		if err != nil {
			return nil, err
		}
		answer, status, err := p.put(only)
		return stored{answer: answer, status: status}, err
	})
	o.Answer = reflect.TypeFor[T]()
	return o.refuses("already_exists").conditional()
}

func (a *API) putAudience(r *http.Request, name string, want api.AudienceState) (replacement[api.Audience], error) {
	want.TTL = cmp.Or(want.TTL, "15m")
	return replacement[api.Audience]{
		tag:  api.Audience.ETag,
		show: func() (api.Audience, error) { return a.cfg.Issuer.Audience(r.Context(), name) },
		add: func() (api.Audience, error) {
			return a.addAudience(r, api.Audience{Name: name, Alg: want.Alg, TTL: want.TTL, Scopes: want.Scopes, Profile: want.Profile, Type: want.Type, Claims: want.Claims, ClaimMap: want.ClaimMap})
		},
		set: func(current api.Audience, only ...api.Condition) (api.Audience, error) {
			if want.Alg != current.Alg {
				return current, refusal.New("invalid_request", "member 'alg' is '%.100s': the algorithm of audience %s is %s and cannot change", refusal.Quoted(want.Alg), name, current.Alg)
			}
			if p, known := profile.Find(want.Profile); known && want.Type == "" {
				want.Type = p.Types[0]
			}
			change := api.AudienceChange{TTL: &want.TTL, Scopes: &want.Scopes, Profile: &want.Profile, Type: &want.Type, Claims: &want.Claims, ClaimMap: &want.ClaimMap}
			return a.cfg.Issuer.SetAudience(r.Context(), name, change, Actor(r), only...)
		},
	}, nil
}

func (a *API) putClient(r *http.Request, id string, want api.ClientState) (p replacement[api.Client], err error) {
	hash, err := hex.DecodeString(want.SecretSHA256)
	if err != nil || len(hash) != 0 && len(hash) != 32 {
		return p, refusal.New("invalid_request", "member 'secret_sha256' must be 64 hexadecimal digits")
	}
	if len(hash) > 0 && want.Public {
		return p, refusal.New("invalid_request", "a public client has no secret: leave member 'secret_sha256' out")
	}
	return replacement[api.Client]{
		tag:  api.Client.ETag,
		show: func() (api.Client, error) { return a.cfg.Issuer.Client(r.Context(), id) },
		add: func() (api.Client, error) {
			return a.addClient(r, api.NewClient{
				ID: id, Public: want.Public, Disabled: want.Disabled, Grants: want.Grants, Audiences: want.Audiences, Scopes: want.Scopes, Origins: want.Origins,
				Introspect: want.Introspect, Grace: want.Grace, Idle: want.Idle, Absolute: want.Absolute, Claims: want.Claims, SecretHash: string(hash),
			})
		},
		set: func(current api.Client, only ...api.Condition) (api.Client, error) {
			if want.Public != current.Public {
				return current, refusal.New("invalid_request", "member 'public' cannot change; remove client %s first", id)
			}
			changed, err := a.cfg.Issuer.SetClient(r.Context(), id, api.ClientChange{
				Disabled: &want.Disabled, Grants: &want.Grants, Audiences: &want.Audiences, Scopes: &want.Scopes, Origins: &want.Origins,
				Introspect: &want.Introspect, Grace: &want.Grace, Idle: &want.Idle, Absolute: &want.Absolute, Claims: &want.Claims, SecretHash: string(hash),
			}, Actor(r), only...)
			changed.Warnings = append(site.Warnings(changed.Origins, a.cfg.Issuer.URL()), a.useless(changed)...)
			return changed, err
		},
	}, nil
}

func (a *API) putUser(r *http.Request, name string, want api.UserState) (p replacement[api.User], err error) {
	id, ok := strings.CutPrefix(name, "id:")
	if !ok || id == "" {
		return p, refusal.New("invalid_request", "parameter 'user' must be %s and the id of the user: a name can change", "id:")
	}
	return replacement[api.User]{
		tag:  api.User.ETag,
		show: func() (api.User, error) { return a.cfg.Issuer.User(r.Context(), name) },
		add: func() (api.User, error) {
			return a.addUser(r, api.NewUser{ID: id, Name: want.Name, Disabled: want.Disabled, Claims: want.Claims, Password: want.Password})
		},
		set: func(_ api.User, only ...api.Condition) (api.User, error) {
			change := api.UserChange{Name: &want.Name, Disabled: &want.Disabled, Claims: &want.Claims}
			return a.cfg.Issuer.SetUser(r.Context(), name, change, Actor(r), only...)
		},
	}, nil
}
