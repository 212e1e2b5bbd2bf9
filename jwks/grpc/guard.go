// Package jwksgrpc guards gRPC servers with the tokens that package jwks verifies. It is
// named after both, since what imports it also imports grpc. It is a module of its own, so
// that jwks needs nothing but the standard library.
//
// A token comes as the metadata authorization: Bearer …, once (RFC 6750, section 2.1). What
// comes without is answered as gRPC has words for it, without details:
//
//	no token, or none that is good   Unauthenticated
//	one without a scope              PermissionDenied
//	no keys to judge it by           Unavailable
//	the call ended while waiting     Canceled, DeadlineExceeded
//
// Whatever is wrong with a token, the answer is the same. Handlers find the claims with
// jwks.ClaimsOf. The metadata stays, for handlers that call others on behalf of the same
// user; gRPC sends it nowhere by itself.
package jwksgrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"keymill/jwks"
)

// A Guard lets calls with a good token through. Give a server both of its interceptors, or
// half of its methods are open. Methods are named in full, as
// "/grpc.health.v1.Health/Check".
type Guard struct {
	Verifier *jwks.Verifier

	// Scopes says what the token for a method must grant, all of it. A method that is not
	// named needs a good token and no scope, so Check guards against a misspelt one.
	Scopes map[string][]string // full method → scopes

	// Open are the methods that need no token, as health and reflection may be. One that is
	// sent is not looked at, and there are no claims.
	Open []string

	// Refused, if it is set, hears why a call was refused or a stream ended; errors.Is tells
	// the reasons apart, which are those of package jwks. It is for logs and metrics. The
	// metadata of ctx and why do not hold the token. A client that left while the keys were
	// waited for was not refused.
	Refused func(ctx context.Context, fullMethod string, why error)
}

// Unary returns the interceptor for calls of one message each way. A call may outlive its
// token, as a request of HTTP may. Like Stream, it panics without a verifier, on what is no
// full method or no scope, and on a method that is both open and not: each is a mistake in
// the wiring, and the first call is too late to learn of it.
func (g Guard) Unary() grpc.UnaryServerInterceptor {
	h := g.hold()
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		claims, err := h.admit(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		if claims != nil {
			ctx = jwks.WithClaims(ctx, claims)
		}
		return handler(ctx, req)
	}
}

// Check says which methods of Scopes and Open s does not serve. Call it when the services
// are registered: one that is misspelt in Scopes would be left without a scope.
func (g Guard) Check(s *grpc.Server) error {
	served := map[string]bool{} // full method → true
	for service, info := range s.GetServiceInfo() {
		for _, method := range info.Methods {
			served["/"+service+"/"+method.Name] = true
		}
	}
	var unknown []string
	for _, method := range slices.Concat(slices.Sorted(maps.Keys(g.Scopes)), g.Open) {
		if !served[method] {
			unknown = append(unknown, method)
		}
	}
	if unknown != nil {
		return fmt.Errorf("the guard names methods that the server has not: %s", strings.Join(unknown, ", "))
	}
	return nil
}

// held is a Guard whose rules can no longer change.
type held struct {
	Guard
	open map[string]bool // full method → true
}

func (g Guard) hold() held {
	if g.Verifier == nil || g.Verifier.Audience() == "" {
		panic("jwksgrpc: a Guard needs a Verifier that jwks.NewVerifier made")
	}
	h := held{Guard: g, open: map[string]bool{}}
	for _, method := range g.Open {
		mustBeMethod(method)
		h.open[method] = true
	}
	h.Scopes = map[string][]string{}
	for method, scopes := range g.Scopes {
		mustBeMethod(method)
		if h.open[method] {
			panic(fmt.Sprintf("jwksgrpc: %s is open and has scopes", method))
		}
		for _, scope := range scopes {
			if !jwks.IsScope(scope) {
				panic(fmt.Sprintf("jwksgrpc: %q is not one scope (RFC 6749, section 3.3)", scope))
			}
		}
		h.Scopes[method] = slices.Clone(scopes)
	}
	return h
}

func mustBeMethod(name string) {
	rest, rooted := strings.CutPrefix(name, "/")
	if service, method, _ := strings.Cut(rest, "/"); !rooted || service == "" || method == "" || strings.Contains(method, "/") {
		panic(fmt.Sprintf("jwksgrpc: %q is no full method as /package.Service/Method", name))
	}
}

// admit returns the claims of a call, nil for an open method, or the status that refuses it.
func (h held) admit(ctx context.Context, method string) (*jwks.Claims, error) {
	if h.open[method] {
		return nil, nil
	}
	claims, err := h.judge(ctx, method)
	if err != nil {
		left := errors.Is(err, jwks.ErrUnavailable) && errors.Is(ctx.Err(), context.Canceled)
		if !left {
			h.tell(ctx, method, err)
		}
		return nil, h.refusal(ctx, method, err)
	}
	return claims, nil
}

func (h held) judge(ctx context.Context, method string) (*jwks.Claims, error) {
	token, err := jwks.Bearer(metadata.ValueFromIncomingContext(ctx, "authorization"))
	if err != nil {
		return nil, err
	}
	claims, err := h.Verifier.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := claims.Grants(h.Scopes[method]...); err != nil {
		return nil, err
	}
	return claims, nil
}

// refusal ends with Unauthenticated: what it does not know is the token's fault.
func (h held) refusal(ctx context.Context, method string, why error) error {
	switch {
	case errors.Is(why, jwks.ErrScope):
		return status.Error(codes.PermissionDenied, "the token must grant: "+strings.Join(h.Scopes[method], " "))
	case errors.Is(why, jwks.ErrUnavailable) && ctx.Err() != nil: // no time to wait for keys
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(why, jwks.ErrUnavailable):
		return status.Error(codes.Unavailable, "tokens cannot be verified now")
	}
	return unauthenticated()
}

func unauthenticated() error {
	return status.Error(codes.Unauthenticated, "a good bearer token is needed")
}

// tell gives Refused a context that a log may look into.
func (h held) tell(ctx context.Context, method string, why error) {
	if h.Refused == nil {
		return
	}
	fields, _ := metadata.FromIncomingContext(ctx) // a copy
	fields.Delete("authorization")
	h.Refused(metadata.NewIncomingContext(ctx, fields), method, why)
}
