package verifiers

import (
	"context"
	"encoding/json"
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
func newVerifier(t *testing.T, s settings) (*jwks.Verifier, error) {
	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: s.issuer})
	if err != nil {
		return nil, err
	}
	t.Cleanup(keys.Close)
	return jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: s.issuer, Audience: s.audience, Algorithms: []string{s.alg}, Keys: keys, Cache: 1000,
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
