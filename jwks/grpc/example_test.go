package jwksgrpc_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"keymill/jwks"
	jwksgrpc "keymill/jwks/grpc"
)

// A server whose health is open to all, while only operators may list.
func ExampleGuard() {
	issuer := publish() // stands for https://id.example.com
	defer issuer.Close()

	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: issuer.URL})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	verifier, err := jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: issuer.URL, Audience: "orders", Algorithms: []string{jwks.EdDSA}, Keys: keys,
	})
	if err != nil {
		log.Fatal(err)
	}

	guard := jwksgrpc.Guard{
		Verifier: verifier,
		Scopes:   map[string][]string{"/grpc.health.v1.Health/List": {"ops"}},
		Open:     []string{"/grpc.health.v1.Health/Check"},
	}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(guard.Unary()),
		grpc.ChainStreamInterceptor(guard.Stream()),
	)
	healthpb.RegisterHealthServer(server, health.NewServer())
	if err := guard.Check(server); err != nil { // a misspelt method
		log.Fatal(err)
	}

	client, stop := dial(server)
	defer stop()
	ctx := context.Background()
	_, err = client.Check(ctx, &healthpb.HealthCheckRequest{})
	fmt.Println("Check:", status.Code(err))
	_, err = client.List(ctx, &healthpb.HealthListRequest{})
	fmt.Println("List:", status.Code(err))
	for _, scope := range []string{"orders:read", "ops"} {
		ctx := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token("iss", issuer.URL, "scope", scope))
		_, err = client.List(ctx, &healthpb.HealthListRequest{})
		fmt.Printf("List with %s: %v\n", scope, status.Code(err))
	}
	// Output:
	// Check: OK
	// List: Unauthenticated
	// List with orders:read: PermissionDenied
	// List with ops: OK
}

// publish serves the key of token, and the discovery document that names it.
func publish() *httptest.Server {
	set, err := jwks.NewSet(jwks.Key{KID: "k", Alg: jwks.EdDSA, Public: private.Public().(ed25519.PublicKey)})
	if err != nil {
		log.Fatal(err)
	}
	keys := jwks.NewHandler(5 * time.Minute)
	keys.Publish(set)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	mux.Handle("/.well-known/jwks.json", keys)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/.well-known/jwks.json")
	})
	return server
}

func dial(server *grpc.Server) (client healthpb.HealthClient, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(listener)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return healthpb.NewHealthClient(conn), func() { conn.Close(); server.Stop() }
}
