// Package endpoint is the HTTP face of Keymill: it reads requests, lets issuer and
// keystore decide, and writes what they said. A handler returns an error, and one
// place (refuse) turns that into an answer and a log line:
//
//	error                              public           admin
//	*refusal.Refusal                    400, 401         400, 404, 409
//	*keystore.InvalidError             –                the same
//	*keystore.NotReadyError            –                409 with "at"
//	what issuer.Unavailable knows      503 Retry-After  503 Retry-After
//	too many failures                  429 Retry-After  –
//	*issuer.BusyError                  429 Retry-After  429 Retry-After
//	a door whose client cannot be used 503              –
//	everything else, panics included   500              500
//
// There are two faces. Admin serves /admin/v1/… on a Unix socket, to the server's own
// user and root only. Public serves
//
//	GET  /.well-known/jwks.json                     RFC 7517          any origin
//	GET  /.well-known/oauth-authorization-server    RFC 8414          any origin
//	GET  /.well-known/openid-configuration          OIDC Discovery    any origin
//	GET  /healthz, /readyz
//	POST /token                                     RFC 6749          the client's origins
//	POST /revoke                                    RFC 7009          the client's origins
//	POST /introspect                                RFC 7662          no origin
//	POST /api/token/, …/refresh/, …/verify/, …/blacklist/             the client's origins
//	POST /session/login, /session/refresh, /session/logout            the same, with cookies
//
// The last two lines are doors, where people log in: each is open if the configuration
// binds a client to it. The first speaks as djangorestframework-simplejwt does, also
// when it refuses. The second is for pages that should never hold a refresh token: it
// keeps that in a cookie. What a path says when it refuses is its shape.
//
// Every answer says nosniff, and no-store unless it is meant for caches. Nothing that a
// request carries besides the parameters of its endpoint changes an answer: not Host,
// not X-Forwarded-*. Sizes are in bytes.
package endpoint

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/keystore"
)

// Config is what a Server needs. Issuer, Keys, KeySet and Log must be set.
type Config struct {
	Issuer *issuer.Issuer
	Keys   *keystore.Rings
	KeySet *KeySet // the one that keystore publishes to

	SimpleJWT SimpleJWT
	Session   Session

	// TrustedProxies may say in X-Forwarded-For whom they speak for.
	TrustedProxies []netip.Prefix

	// DevHosts, if not empty, are the only Host headers that are answered, with or
	// without a port: a page that rebinds its name to loopback gets 421.
	DevHosts []string

	StoreFailed func() error // nil while the store is well
	StoreBytes  func() int64 // size of the store
	Version     string
	Log         *slog.Logger
}

// SimpleJWT is the door of djangorestframework-simplejwt.
type SimpleJWT struct {
	Client string // whose users come in here; "" keeps the door shut
	Prefix string // of its paths, "/api" if ""
}

// Session is the cookie door.
type Session struct {
	Client string // whose users come in here; "" keeps the door shut
}

// A Server is the HTTP face.
type Server struct {
	cfg         Config
	clients     *limit.ClientLimiter
	passwords   *limit.PasswordLimiter // of both login endpoints
	refused     refusals
	cookie      string // name of the cookie door's
	fence       fence  // of the cookie door
	djangoFence fence
	public      *edge
	admin       *edge
}

// New prepares the routes and the discovery documents.
func New(cfg Config) (*Server, error) {
	if cfg.Issuer == nil || cfg.Keys == nil || cfg.KeySet == nil || cfg.Log == nil {
		return nil, errors.New("endpoint: Issuer, Keys, KeySet and Log must be set")
	}
	s := &Server{cfg: cfg, clients: limit.NewClientLimiter(), passwords: limit.NewPasswordLimiter(time.Now())}
	documents, err := s.documents()
	if err != nil {
		return nil, err
	}
	s.public = s.newEdge(busy{code: "temporarily_unavailable"}, s.admitHost)
	for path, doc := range documents {
		s.public.get(path, doc.serve)
	}
	s.publicRoutes(s.public)
	if err := s.openSimpleJWT(s.public); err != nil {
		return nil, err
	}
	if err := s.openSession(s.public); err != nil {
		return nil, err
	}
	s.admin = s.newEdge(busy{code: "unavailable", candid: true}, admitPeer)
	s.adminRoutes(s.admin)
	return s, nil
}

func (s *Server) publicRoutes(e *edge) {
	e.get("/.well-known/jwks.json", s.cfg.KeySet.serve)
	e.get("/healthz", s.healthz)
	e.get("/readyz", s.readyz)
	e.handle(http.MethodPost, "/token", s.token)
	e.handle(http.MethodOptions, "/token", s.preflight)
	e.handle(http.MethodPost, "/revoke", s.revoke)
	e.handle(http.MethodOptions, "/revoke", s.preflight)
	e.handle(http.MethodPost, "/introspect", s.introspect)
}

// Public returns the face that the world sees.
func (s *Server) Public() http.Handler { return s.public }

// Admin returns the face of administrators. Its http.Server must have AdminConnContext.
func (s *Server) Admin() http.Handler { return s.admin }

func (s *Server) newEdge(b busy, admit func(*http.Request) error) *edge {
	e := &edge{
		router: httprouter.New(), shapes: map[string]*shape{}, admit: admit, busy: b, address: s.address, log: s.cfg.Log,
	}
	// A redirect would replay the client's credentials at a path it never named.
	e.router.RedirectTrailingSlash, e.router.RedirectFixedPath = false, false
	e.router.HandleOPTIONS = false
	e.router.NotFound = e.handler(func(http.ResponseWriter, *http.Request) error { return errNotFound })
	e.router.MethodNotAllowed = e.handler(methodNotAllowed)
	return e
}

// methodNotAllowed: the router has set Allow and counted OPTIONS in, which exists for
// preflights only.
func methodNotAllowed(w http.ResponseWriter, _ *http.Request) error {
	var allow []string
	for m := range strings.SplitSeq(w.Header().Get("Allow"), ", ") {
		if m != http.MethodOptions {
			allow = append(allow, m)
		}
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return errMethod
}

// admitHost keeps a development server to its own names.
func (s *Server) admitHost(r *http.Request) error {
	if len(s.cfg.DevHosts) == 0 {
		return nil
	}
	host := r.Host
	if n := strings.LastIndexByte(host, ':'); n >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:n]
	}
	for _, known := range s.cfg.DevHosts {
		if strings.EqualFold(known, r.Host) || strings.EqualFold(known, host) {
			return nil
		}
	}
	return errMisdirected
}
