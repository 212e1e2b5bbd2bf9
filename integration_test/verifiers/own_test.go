package verifiers

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"keymill/jwks"
	jwksgrpc "keymill/jwks/grpc"
)

// ownLibraries returns this project's own verifiers, which have no gap. They obey max-age, so they
// need no lifespan.
func ownLibraries() []library {
	return []library{
		{name: "keymill", algs: all, sight: seesAlone, start: startOwn},
		{name: "keymill-grpc", algs: all, sight: seesAlone, start: startOwnGRPC},
	}
}

// newVerifier returns a verifier as a service uses it. Its cache of verified tokens is on, because
// the cache must not accept a token whose key has left the set.
func newVerifier(t *testing.T, s settings, types ...string) (*jwks.Verifier, error) {
	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: s.issuer})
	if err != nil {
		return nil, err
	}
	t.Cleanup(keys.Close)
	types = append(types, "", "") // the type and the old one
	return jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: s.issuer, Audience: s.audience, Algorithms: []string{s.alg}, Keys: keys, Cache: 1000, Type: types[0], OldType: types[1],
	})
}

func startOwn(t *testing.T, s settings) (string, error) {
	verifier, err := newVerifier(t, s)
	if err != nil {
		return "", err
	}
	guard := jwks.Guard{Verifier: verifier}
	return serve(t, guard.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"sub": jwks.ClaimsOf(r.Context()).Subject})
	}))), nil
}

// startOwnGRPC starts a gRPC server and an HTTP server in front of it that passes the Authorization
// header on, so that the tests can call it like the other services.
func startOwnGRPC(t *testing.T, s settings) (string, error) {
	verifier, err := newVerifier(t, s)
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(jwksgrpc.Guard{Verifier: verifier}.Unary()))
	health.RegisterHealthServer(server, whoami{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { conn.Close() })
	return serve(t, bridge{health.NewHealthClient(conn)}), nil
}

// whoami answers with the caller's subject, in a header.
type whoami struct {
	health.UnimplementedHealthServer
}

func (whoami) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	err := grpc.SetHeader(ctx, metadata.Pairs("subject", jwks.ClaimsOf(ctx).Subject))
	return &health.HealthCheckResponse{}, err
}

type bridge struct{ client health.HealthClient }

func (b bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, answer := r.Context(), metadata.MD{}
	for _, value := range r.Header.Values("Authorization") {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	_, err := b.client.Check(ctx, &health.HealthCheckRequest{}, grpc.Header(&answer))
	switch subject := answer.Get("subject"); {
	case err == nil && len(subject) == 1:
		json.NewEncoder(w).Encode(map[string]string{"sub": subject[0]})
	case status.Code(err) == codes.Unauthenticated:
		http.Error(w, err.Error(), http.StatusUnauthorized)
	default:
		http.Error(w, "gRPC: "+status.Convert(err).String(), http.StatusBadGateway)
	}
}

// TestTheTypeOfAnAudienceIsFollowed: a verifier that expects the type JWT accepts no other, and one with an old type accepts both
// while the issuer changes it.
func TestTheTypeOfAnAudienceIsFollowed(t *testing.T) {
	t.Parallel()
	srv, clients := issuer(t, slow, "10m")
	before := token(t, srv, clients["EdDSA"], "orders")
	srv.Run(t, "audience", "set", "orders", "--type", jwks.TypeJWT)
	m := newMints(t, srv, clients)["EdDSA"]
	if m.header["typ"] != jwks.TypeJWT {
		t.Fatalf("the type is %v", m.header["typ"])
	}
	for _, tt := range []struct {
		types []string
		taken []bool // genuine, before, no typ, typ refresh+jwt
	}{
		{nil, []bool{false, true, false, false}},
		{[]string{jwks.TypeJWT}, []bool{true, false, false, false}},
		{[]string{jwks.TypeJWT, jwks.TypeAccessToken}, []bool{true, true, false, false}},
		{[]string{jwks.TypeAccessToken, jwks.TypeJWT}, []bool{true, true, false, false}},
	} {
		v, err := newVerifier(t, settings{issuer: srv.Issuer, audience: "orders", alg: "EdDSA"}, tt.types...)
		if err != nil {
			t.Fatal(err)
		}
		for i, raw := range []string{m.genuine, before, m.head(object{"typ": nil}), m.head(object{"typ": "refresh+jwt"})} {
			_, err := v.Verify(t.Context(), raw)
			if (err == nil) != tt.taken[i] || err != nil && !errors.Is(err, jwks.ErrType) {
				t.Errorf("%v: token %d: %v", tt.types, i, err)
			}
		}
	}
}
