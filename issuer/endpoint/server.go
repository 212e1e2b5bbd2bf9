// Package endpoint serves Keymill's HTTP API. A handler reads a request, calls issuer or
// keystore, which decide, and writes the answer, or returns an error. The router turns
// every error into an answer and a log line:
//
//	error                              public           admin
//	*refusal.Refusal                   400, 401         400, 404, 409
//	*keystore.InvalidError             –                400, 404, 409
//	*keystore.NotReadyError            –                409 with "at"
//	outage.Of, temporary               503 Retry-After  503 Retry-After
//	outage.Of, permanent               503              503
//	*limit.Error                       429 Retry-After  –
//	*issuer.BusyError                  429 Retry-After  429 Retry-After
//	*http.MaxBytesError                413              413
//	login endpoint's client unusable   503              –
//	any other error, and panics        500              500
//
// The admin API describes an error as RFC 9457 says, the public API as RFC 6749.
//
// There are up to five listeners. Admin serves /admin/v1/… on a Unix socket (package admin), and Remote to holders of
// tokens (package access). Verify answers proxies (package forwardauth). Monitor
// serves GET /metrics (package metrics), and /healthz and /readyz as Public does. Public serves
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
// The last two lines are the login endpoints, simplejwt and browser. Each is served if the
// configuration names its client. simplejwt has the API of djangorestframework-simplejwt,
// error format included. browser is for single page apps that should not hold a refresh
// token: it keeps the token in a cookie.
//
// Every answer has X-Content-Type-Options: nosniff, and Cache-Control: no-store unless
// caches may keep it. Only the parameters of an endpoint and the headers that this package
// documents change an answer: Host and X-Forwarded-Host do not. Sizes are in bytes.
package endpoint

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/endpoint/activity"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/admin/access"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/endpoint/metrics"
	"keymill/issuer/endpoint/mount"
	"keymill/issuer/endpoint/readiness"
	"keymill/issuer/origin"
	"keymill/issuer/verifiers"
	"keymill/keystore"
)

// Config is what a Server needs. Issuer, Keys, KeySet and Log must be set.
type Config struct {
	Issuer *issuer.Issuer
	Keys   *keystore.Rings
	KeySet *keyset.KeySet // to which Keys publishes

	// Verifiers remembers which key set each verifier was served. It may be nil.
	Verifiers *verifiers.Registry

	// Applied are the marks of keymill apply, for the admin API. It may be nil.
	Applied *applied.Marks

	SimpleJWT SimpleJWT
	Browser   Browser

	// Advice returns what an operator can do about a login endpoint whose client cannot be
	// used, for the log; "" for nothing. It may be nil.
	Advice func(UnusableClient) string

	// Warnings returns what is wrong although the server may be ready, for the admin API, and
	// Changed is called after each change through that API. Both may be nil.
	Warnings func(context.Context) []api.Warning
	Changed  func(context.Context)

	// TrustedProxies are proxies whose X-Forwarded-For is believed, until SetTrustedProxies.
	TrustedProxies []netip.Prefix

	// TrialHosts, if not empty, are the only Host headers that are answered, with or without
	// a port. A page that rebinds its DNS name to a loopback address gets 421.
	TrialHosts []string

	// Nodes returns how many servers of the store are live, because they share the limits; nil if there is one.
	Nodes func() int

	// ListNodes lists them, for the admin API; nil if there is one.
	ListNodes func(context.Context) (api.Nodes, error)

	// Damaged gets the context and the error of each request that could not be answered. If a damaged record is the
	// reason, the error names it. It may be nil.
	Damaged func(context.Context, error)

	// AdminHosts are those of the listener of Remote; nil if there is none.
	AdminHosts *access.Hosts

	// Metrics counts what the public API does; nil counts nothing.
	Metrics *metrics.Metrics

	StoreFailed func() error                                            // nil while the store works
	StoreAway   func() (time.Time, error)                               // since when and why the store cannot be reached; nil for one in this process
	CommitSince func() time.Time                                        // when the store's commit under way began, zero if there is none; may be nil
	StoreBytes  func() int64                                            // size of the store
	Backup      func(ctx context.Context, w io.Writer, by string) error // for the admin API, see admin.Config
	Migrate     func(ctx context.Context, q api.MigrationRequest, by string) (api.Migration, error)
	Records     func(ctx context.Context, w io.Writer) error
	Version     string
	Settings    func() []api.Setting // that the server uses, for the admin API; may be nil

	// Log gets the lines of requests with their contexts, so that a requestid.Handler adds their ids.
	Log *slog.Logger
}

// SimpleJWT configures the login endpoint with the API of djangorestframework-simplejwt.
type SimpleJWT struct {
	Client string // id of the client through which users log in; "" turns the endpoint off
	Prefix string // of the paths, see CheckPrefix; "" means "/api"

	// UsernameField is the field of a login that has the user name, see CheckUsernameField; ""
	// means "username". It is USERNAME_FIELD of a Django project's own user model.
	UsernameField string
}

// Browser configures the login endpoint with cookies.
type Browser struct {
	Client string // id of the client through which users log in; "" turns the endpoint off
}

// A Server serves the public and the admin API.
type Server struct {
	cfg       Config
	clients   *limit.ClientLimiter
	passwords *limit.PasswordLimiter // of both login endpoints
	refused   limit.Counter          // for the audit log
	activity  *activity.Recorder
	lines     *limit.Log // of the public API
	simplejwt loginEndpoint
	browser   loginEndpoint
	cookie    string // name of the browser endpoint's cookie
	origin    string // of the issuer
	path      string // of the issuer, "" or like "/auth"
	public    *router
	admin     *router
	remote    *router // nil without Config.AdminHosts
	monitor   *router
	verify    *router
	checks    *readiness.Checker
	trusted   atomic.Pointer[[]netip.Prefix] // proxies
}

// New prepares the routes and the discovery documents.
func New(cfg Config) (*Server, error) {
	if cfg.Issuer == nil || cfg.Keys == nil || cfg.KeySet == nil || cfg.Log == nil {
		return nil, errors.New("endpoint: Issuer, Keys, KeySet and Log must be set")
	}
	s := &Server{
		cfg: cfg, clients: limit.NewClientLimiter(cfg.Nodes), passwords: limit.NewPasswordLimiter(time.Now()), lines: limit.NewLog(cfg.Log), activity: activity.New(),
	}
	s.checks = s.newChecks()
	s.passwords.SetShare(cfg.Nodes)
	s.origin, s.path = origin.OfIssuer(cfg.Issuer.URL())
	s.SetTrustedProxies(cfg.TrustedProxies)
	documents, err := s.documents()
	if err != nil {
		return nil, err
	}
	s.public = s.newRouter(unavailable{code: temporarilyUnavailable}, s.admit)
	s.public.lines = s.lines
	if s.path != "" { // most often the proxy has removed it
		missing := newStatusError(http.StatusNotFound, "not_found", "this path does not exist: the paths of this server begin with "+s.path+"/")
		s.public.mux.NotFound = s.public.httpHandler(func(http.ResponseWriter, *http.Request) error { return missing })
	}
	for path, doc := range documents {
		s.public.get(path, doc.serve)
		s.public.handle(http.MethodOptions, path, documentOptions)
	}
	s.publicRoutes(s.public)
	if err := s.simpleJWTRoutes(s.public); err != nil {
		return nil, err
	}
	if err := s.browserRoutes(s.public); err != nil {
		return nil, err
	}
	s.admin = s.newRouter(unavailable{code: "unavailable", withReason: true}, admin.CheckPeer)
	s.admin.format = &problemFormat
	s.adminRoutes(s.admin)
	s.public.damaged, s.admin.damaged = cfg.Damaged, cfg.Damaged
	if cfg.AdminHosts != nil {
		s.remoteRoutes(access.NewGuard(*cfg.AdminHosts, cfg.Issuer, cfg.Nodes, s.refused.Count))
	}
	s.verifyRoutes()
	s.measure()
	return s, nil
}

func (s *Server) publicRoutes(r *router) {
	r.handleKeySet(keyset.Path, s.cfg.KeySet.Handler(s.watch()))
	r.handle(http.MethodOptions, keyset.Path, documentOptions)
	r.get("/healthz", s.healthz)
	r.get("/readyz", s.readyz)
	r.handle(http.MethodPost, "/token", s.token)
	r.handle(http.MethodOptions, "/token", s.preflight)
	r.handle(http.MethodPost, "/revoke", s.revoke)
	r.handle(http.MethodOptions, "/revoke", s.preflight)
	r.handle(http.MethodPost, "/introspect", s.introspect)
}

// watch says who remembers which key set was served.
func (s *Server) watch() keyset.Watch {
	if s.cfg.Verifiers == nil {
		return keyset.Watch{}
	}
	v := s.cfg.Verifiers
	return keyset.Watch{Pinned: v.ServedPinned, Observed: v.Served, Again: v.ServedAgain, Addresses: s.addresses}
}

// Public returns the handler of the public listener. It serves below the path of the issuer.
func (s *Server) Public() http.Handler {
	return mount.Below(s.path, s.public, []string{oauthDocument, openIDDocument}, []string{"/healthz", "/readyz"})
}

// Admin returns the handler of the admin socket. Its http.Server must have
// admin.ConnContext.
func (s *Server) Admin() http.Handler { return s.admin }

func (s *Server) adminRoutes(rt *router) {
	handlers := admin.New(admin.Config{
		Issuer: s.cfg.Issuer, Keys: s.cfg.Keys, Passwords: s.passwords, Verifiers: s.cfg.Verifiers, Applied: s.cfg.Applied,
		Issues: s.checks.Issues, Warnings: s.cfg.Warnings, Changed: s.cfg.Changed,
		StoreBytes: s.cfg.StoreBytes, Version: s.cfg.Version, Settings: s.cfg.Settings, Activity: s.activity.Minutes, Log: s.cfg.Log,
		LoginsOf: s.loginsOf, Backup: s.cfg.Backup, Nodes: s.cfg.ListNodes,
		Migrate: s.cfg.Migrate, Records: s.cfg.Records,
	})
	for _, route := range handlers.Routes() {
		h := func(w http.ResponseWriter, r *http.Request) error { return handlers.Serve(route, w, r) }
		if route.Method == http.MethodGet {
			rt.get(route.Path, h)
		} else {
			rt.handle(route.Method, route.Path, h)
		}
	}
}

// loginsOf returns the login endpoints where users log in through the client.
func (s *Server) loginsOf(client string) (names []string) {
	if client == s.cfg.SimpleJWT.Client {
		names = append(names, issuer.LoginSimpleJWT.String())
	}
	if client == s.cfg.Browser.Client {
		names = append(names, issuer.LoginBrowser.String())
	}
	return names
}

// clientExists reports whether the log may name a client. Those of the login endpoints come from the
// configuration: a forged token that is refused there must not read the store. A store that is away is not asked: the
// answer to the request would come as late again.
func (s *Server) clientExists(ctx context.Context, id string, away bool) bool {
	if len(s.loginsOf(id)) > 0 {
		return true
	} else if away {
		return false
	}
	_, err := s.cfg.Issuer.Client(ctx, id)
	return err == nil
}

// admit refuses requests that no handler may see.
func (s *Server) admit(r *http.Request) error {
	if err := checkHeaderCount(r.Header); err != nil {
		return err
	}
	if err := s.checkHost(r); err != nil {
		return err
	}
	return checkHeaders(r)
}

// checkHost refuses requests whose Host header does not name this trial server.
func (s *Server) checkHost(r *http.Request) error {
	if len(s.cfg.TrialHosts) == 0 {
		return nil
	}
	host := r.Host
	if n := strings.LastIndexByte(host, ':'); n >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:n]
	}
	for _, known := range s.cfg.TrialHosts {
		if strings.EqualFold(known, r.Host) || strings.EqualFold(known, host) {
			return nil
		}
	}
	return errMisdirected
}
