// Service runs the authenticator of the Kubernetes API server for JWTs, without the API server. The file SERVICE_CONFIG is an
// AuthenticationConfiguration with one issuer. It prints its URL and answers each request with the user of its bearer token.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	config, err := read(os.Getenv("SERVICE_CONFIG"))
	if err != nil {
		return err
	}
	options := oidc.Options{JWTAuthenticator: config.JWT[0], SupportedSigningAlgs: oidc.AllValidSigningAlgorithms()} // as the API server does
	if ca := config.JWT[0].Issuer.CertificateAuthority; ca != "" {
		options.CAContentProvider = authority(ca)
	}
	users, err := oidc.New(ctx, options)
	if err != nil {
		return err
	}
	for users.HealthCheck() != nil {
		time.Sleep(20 * time.Millisecond)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	return http.Serve(listener, service{users})
}

// read reads and checks the file as strictly as the API server does.
func read(file string) (*apiserver.AuthenticationConfiguration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	decoded, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(), text)
	if err != nil {
		return nil, err
	}
	config, found := decoded.(*apiserver.AuthenticationConfiguration)
	if !found || len(config.JWT) != 1 {
		return nil, fmt.Errorf("%s is a %T, not an AuthenticationConfiguration with one issuer", file, decoded)
	}
	return config, validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), config, nil).ToAggregate()
}

type authority string

func (a authority) CurrentCABundleContent() []byte { return []byte(a) }

type service struct{ users authenticator.Token }

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	answer, known, err := s.users.AuthenticateToken(r.Context(), token)
	if err != nil || !known {
		http.Error(w, fmt.Sprint("unauthorized: ", err), http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"sub": answer.User.GetName(), "groups": answer.User.GetGroups()})
}
