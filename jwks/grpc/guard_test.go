package jwksgrpc_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"keymill/jwks"
	jwksgrpc "keymill/jwks/grpc"
)

const (
	get  = "/orders.v1.Orders/Get"
	talk = "/orders.v1.Orders/Talk"
)

func TestTheAnswersAreThoseOfTheTable(t *testing.T) {
	w := open(t, jwksgrpc.Guard{Scopes: map[string][]string{get: {"read", "admin"}, talk: {"read", "admin"}}})
	admin := token("scope", "write read admin")
	const (
		bad   = "a good bearer token is needed"
		scope = "the token must grant: read admin"
	)
	for _, tt := range []struct {
		name          string
		authorization []string
		code          codes.Code
		message       string
		why           error
	}{
		{"a good token", []string{"Bearer " + admin}, codes.OK, "", nil},
		{"schemes know no case", []string{"bearer " + admin}, codes.OK, "", nil},

		{"nothing", nil, codes.Unauthenticated, bad, jwks.ErrNoToken},
		{"another scheme", []string{"Basic YTpi"}, codes.Unauthenticated, bad, jwks.ErrNoToken},
		{"no scheme", []string{admin}, codes.Unauthenticated, bad, jwks.ErrNoToken},
		{"two tokens", []string{"Bearer " + admin, "Bearer " + admin}, codes.Unauthenticated, bad, jwks.ErrCredentials},
		{"two tokens in one", []string{"Bearer " + admin + ",Bearer " + admin}, codes.Unauthenticated, bad, jwks.ErrCredentials},
		{"an empty token", []string{"Bearer "}, codes.Unauthenticated, bad, jwks.ErrCredentials},
		{"no token of ours", []string{"Bearer x"}, codes.Unauthenticated, bad, jwks.ErrMalformed},
		{"expired", []string{"Bearer " + token("exp", 1e9)}, codes.Unauthenticated, bad, jwks.ErrExpired},
		{"for another service", []string{"Bearer " + token("aud", "invoices")}, codes.Unauthenticated, bad, jwks.ErrAudience},
		{"tampered", []string{"Bearer " + admin[:len(admin)-8] + "AAAAAAAA"}, codes.Unauthenticated, bad, jwks.ErrSignature},

		{"one scope of two", []string{"Bearer " + token()}, codes.PermissionDenied, scope, jwks.ErrScope},
	} {
		for method, call := range map[string]func(context.Context) (string, error){get: w.get, talk: w.talk} {
			w.forget()
			ctx := t.Context()
			for _, value := range tt.authorization {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
			}
			said, err := call(ctx)
			s := status.Convert(err)
			if s.Code() != tt.code || s.Message() != tt.message || len(s.Details()) != 0 {
				t.Errorf("%s: %s answers %v, want %v %q", tt.name, method, err, tt.code, tt.message)
			}
			entered, whys := w.heard()
			if tt.why == nil {
				if said != "hello alice" || entered != 1 || len(whys) != 0 {
					t.Errorf("%s: %s said %q, entered %d times, refused for %v", tt.name, method, said, entered, whys)
				}
			} else if entered != 0 || len(whys) != 1 || !errors.Is(whys[0], tt.why) {
				t.Errorf("%s: %s was entered %d times, refused for %v, want %v", tt.name, method, entered, whys, tt.why)
			}
		}
	}
}

// TestMethodsThatAreNotNamedNeedAToken, and no scope; those that are open need none, and no
// other of their service is open with them.
func TestMethodsThatAreNotNamedNeedAToken(t *testing.T) {
	w := open(t, jwksgrpc.Guard{
		Scopes: map[string][]string{get: {"admin"}},
		Open:   []string{"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"},
	})
	if _, err := w.talk(with(token("scope", ""))); err != nil {
		t.Errorf("a token without scope: %v", err)
	}
	if _, err := w.talk(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	client := healthpb.NewHealthClient(w.conn)
	patient, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for name, ctx := range map[string]context.Context{
		"without": patient, "with a bad": metadata.AppendToOutgoingContext(patient, "authorization", "Bearer x"),
	} {
		if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("Check %s token: %v", name, err)
		}
		watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Errorf("Watch %s token: %v", name, err)
		}
	}
	if _, err := client.List(patient, &healthpb.HealthListRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("List, which is not open: %v", err)
	}
}

func TestCheckFindsMisspeltMethods(t *testing.T) {
	w := open(t, jwksgrpc.Guard{})
	good := jwksgrpc.Guard{
		Scopes: map[string][]string{get: nil, talk: {"read"}},
		Open:   []string{"/grpc.health.v1.Health/Check"},
	}
	if err := good.Check(w.server); err != nil {
		t.Error(err)
	}
	bad := jwksgrpc.Guard{
		Scopes: map[string][]string{get: nil, "/orders.v1.Orders/get": {"read"}},
		Open:   []string{"/grpc.health.v1.Health/Check", "/grpc.health.v2.Health/Check"},
	}
	err := bad.Check(w.server)
	if err == nil || !strings.HasSuffix(err.Error(), ": /orders.v1.Orders/get, /grpc.health.v2.Health/Check") {
		t.Error(err)
	}
}

func TestAGuardPanicsWhereTheWiringIsWrong(t *testing.T) {
	v := verifier(t, nil)
	for _, tt := range []struct {
		name  string
		guard jwksgrpc.Guard
		says  string
	}{
		{"no verifier", jwksgrpc.Guard{}, "Verifier"},
		{"an empty verifier", jwksgrpc.Guard{Verifier: &jwks.Verifier{}}, "Verifier"},
		{"no slash", jwksgrpc.Guard{Verifier: v, Open: []string{"orders.v1.Orders/Get"}}, "full method"},
		{"only a service", jwksgrpc.Guard{Verifier: v, Open: []string{"/orders.v1.Orders/"}}, "full method"},
		{"no service", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{"//Get": nil}}, "full method"},
		{"only a method", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{"/Get": nil}}, "full method"},
		{"too many parts", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{"/a/b/c": nil}}, "full method"},
		{"an empty scope", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{get: {""}}}, "scope"},
		{"two scopes in one", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{get: {"read write"}}}, "scope"},
		{"a quote", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{get: {`a"b`}}}, "scope"},
		{"no ASCII", jwksgrpc.Guard{Verifier: v, Scopes: map[string][]string{get: {"läs"}}}, "scope"},
		{"open and not", jwksgrpc.Guard{Verifier: v, Open: []string{get}, Scopes: map[string][]string{get: {"read"}}}, "open"},
	} {
		for kind, wire := range map[string]func(){
			"Unary": func() { tt.guard.Unary() }, "Stream": func() { tt.guard.Stream() },
		} {
			func() {
				defer func() {
					if said := fmt.Sprint(recover()); !strings.HasPrefix(said, "jwksgrpc: ") || !strings.Contains(said, tt.says) {
						t.Errorf("%s: %s panics with %q, which does not say %q", tt.name, kind, said, tt.says)
					}
				}()
				wire()
			}()
		}
	}
}

func TestAGuardKeepsItsOwnRules(t *testing.T) {
	scopes := map[string][]string{get: {"admin"}}
	w := open(t, jwksgrpc.Guard{Scopes: scopes})
	scopes[get][0] = "read"
	delete(scopes, get)
	if _, err := w.get(with(token())); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the rules were changed after the wiring: %v", err)
	}
}

// R95.
func TestRefusedNeverSeesTheToken(t *testing.T) {
	secret := token()
	w := open(t, jwksgrpc.Guard{Scopes: map[string][]string{get: {"admin"}}})
	for _, authorization := range []string{"Bearer " + secret, secret, "Bearer " + secret + " x", "Basic " + secret} {
		w.forget()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", authorization, "x-request-id", "17")
		w.get(ctx)
		_, whys := w.heard()
		fields := w.shown[0]
		if told := fmt.Sprint(whys, map[string][]string(fields)); strings.Contains(told, secret) {
			t.Errorf("Refused hears %s", told)
		}
		if ids := fields.Get("x-request-id"); len(ids) != 1 || w.methods[0] != get {
			t.Errorf("Refused cannot tell which call it was: %s %v", w.methods[0], fields)
		}
	}
}

// TestClaimsAreTheCallsOwn, though the token is remembered.
func TestClaimsAreTheCallsOwn(t *testing.T) {
	w := open(t, jwksgrpc.Guard{Verifier: verifier(t, func(c *jwks.VerifierConfig) { c.Cache = 8 })})
	ctx := with(token())
	for range 3 {
		if said, err := w.get(ctx); said != "hello alice" { // the handler changes them
			t.Errorf("%q, %v", said, err)
		}
	}
}

func TestWithoutKeysItIsNotTheTokensFault(t *testing.T) {
	issuer := httptest.NewServer(http.NotFoundHandler())
	defer issuer.Close()
	w := open(t, jwksgrpc.Guard{Verifier: following(t, issuer.URL)})
	for name, call := range map[string]func(context.Context) (string, error){"Get": w.get, "Talk": w.talk} {
		w.forget()
		_, err := call(with(token()))
		_, whys := w.heard()
		if status.Code(err) != codes.Unavailable || len(whys) != 1 || !errors.Is(whys[0], jwks.ErrUnavailable) {
			t.Errorf("%s: %v, refused for %v", name, err, whys)
		}
	}
}

// TestAClientThatLeftWasNotRefused: the interceptors are asked directly, since what they
// answer to a client that left reaches nobody.
func TestAClientThatLeftWasNotRefused(t *testing.T) {
	end := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	defer silent.Close()
	defer close(end)
	var told int
	guard := jwksgrpc.Guard{
		Verifier: following(t, silent.URL),
		Refused:  func(context.Context, string, error) { told++ },
	}
	never := func(context.Context, any) (any, error) { t.Error("the handler was called"); return nil, nil }
	late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	left, leave := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, leave)
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		token string
		code  codes.Code
		told  int
	}{
		{"late", late, token(), codes.DeadlineExceeded, 1},
		{"left", left, token(), codes.Canceled, 0},
		{"left with a bad token", left, "Bearer ?", codes.Unauthenticated, 1},
	} {
		told = 0
		ctx := metadata.NewIncomingContext(tt.ctx, metadata.Pairs("authorization", "Bearer "+tt.token))
		_, err := guard.Unary()(ctx, nil, &grpc.UnaryServerInfo{FullMethod: get}, never)
		if status.Code(err) != tt.code || told != tt.told {
			t.Errorf("%s: %v, told %d times", tt.name, err, told)
		}
	}
}

// Below: an issuer, a service and its client.

// patience bounds whatever a test waits for, so that it fails where it would hang. Nothing is
// asked for in less time: a busy machine may stand still for seconds.
const patience = 5 * time.Minute

var private = ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32)))

// token makes one that is good for a minute, with claims changed in pairs of name and value.
func token(pairs ...any) string {
	claims := map[string]any{
		"iss": "https://id.example", "aud": "orders", "sub": "alice", "client_id": "web", "scope": "read write",
		"exp": float64(time.Now().Add(time.Minute).UnixMilli()) / 1000,
	}
	for i := 0; i < len(pairs); i += 2 {
		claims[pairs[i].(string)] = pairs[i+1]
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	base64url := base64.RawURLEncoding.EncodeToString
	signed := base64url([]byte(`{"alg":"EdDSA","kid":"k","typ":"at+jwt"}`)) + "." + base64url(payload)
	return signed + "." + base64url(ed25519.Sign(private, []byte(signed)))
}

// with is a call's context that carries a token.
func with(token string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
}

func verifier(t *testing.T, change func(*jwks.VerifierConfig)) *jwks.Verifier {
	t.Helper()
	set, err := jwks.NewSet(jwks.Key{KID: "k", Alg: jwks.EdDSA, Public: private.Public()})
	if err != nil {
		t.Fatal(err)
	}
	c := jwks.VerifierConfig{Issuer: "https://id.example", Audience: "orders", Algorithms: []string{jwks.EdDSA}, Keys: set}
	if change != nil {
		change(&c)
	}
	v, err := jwks.NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func following(t *testing.T, issuer string) *jwks.Verifier {
	t.Helper()
	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	return verifier(t, func(c *jwks.VerifierConfig) { c.Issuer, c.Keys = issuer, keys })
}

// A world is a guarded server, its client, and what happened in it.
type world struct {
	server *grpc.Server
	conn   *grpc.ClientConn

	mu      sync.Mutex // guards what follows
	entered int
	whys    []error
	methods []string
	shown   []metadata.MD // what Refused saw

	// converse is what Talk does; nil greets once.
	converse func(grpc.ServerStream) error
}

// open serves on loopback with a guard, which gets the usual verifier if it has none.
func open(t *testing.T, g jwksgrpc.Guard) *world {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, g, listener)
}

func serve(t *testing.T, g jwksgrpc.Guard, listener net.Listener, options ...grpc.DialOption) *world {
	t.Helper()
	w := &world{}
	if g.Verifier == nil {
		g.Verifier = verifier(t, nil)
	}
	g.Refused = w.refused
	w.server = grpc.NewServer(grpc.UnaryInterceptor(g.Unary()), grpc.StreamInterceptor(g.Stream()))
	w.server.RegisterService(w.description(), w)
	healthpb.RegisterHealthServer(w.server, health.NewServer())
	go w.server.Serve(listener)
	t.Cleanup(w.server.Stop)
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	var err error
	w.conn, err = grpc.NewClient("passthrough:///"+listener.Addr().String(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.conn.Close() })
	return w
}

func (w *world) refused(ctx context.Context, method string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fields, _ := metadata.FromIncomingContext(ctx)
	w.whys, w.methods, w.shown = append(w.whys, why), append(w.methods, method), append(w.shown, maps.Clone(fields))
}

func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entered, w.whys, w.methods, w.shown = 0, nil, nil, nil
}

func (w *world) heard() (entered int, whys []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.entered, w.whys
}

// greet uses the claims up, as a handler may.
func (w *world) greet(ctx context.Context) *wrapperspb.StringValue {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entered++
	c := jwks.ClaimsOf(ctx)
	defer func() { c.Subject, c.Audience[0] = "mallory", "all" }()
	return wrapperspb.String("hello " + c.Subject)
}

// description is what protoc would generate.
func (w *world) description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "orders.v1.Orders",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: func(srv any, ctx context.Context, decode func(any) error, guard grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return guard(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: get}, func(ctx context.Context, _ any) (any, error) {
				return w.greet(ctx), nil
			})
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			if w.converse != nil {
				return w.converse(s)
			}
			return s.SendMsg(w.greet(s.Context()))
		}}},
	}
}

func (w *world) get(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out := new(wrapperspb.StringValue)
	err := w.conn.Invoke(ctx, get, wrapperspb.String(""), out)
	return out.Value, err
}

// talk opens a stream and listens to its end.
func (w *world) talk(ctx context.Context) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, talk)
	if err != nil {
		return "", err
	}
	for {
		heard := new(wrapperspb.StringValue)
		if err := s.RecvMsg(heard); errors.Is(err, io.EOF) {
			return said, nil
		} else if err != nil {
			return said, err
		}
		said += heard.Value
	}
}
