// Package jwksgrpc protects gRPC servers with the access tokens that package jwks verifies. It
// is not named grpc, since programs that import it import that package too. It is a module of
// its own, so that jwks needs only the standard library.
//
// The token is in the metadata, as "authorization: Bearer …", exactly once (RFC 6750, section
// 2.1). Other calls are refused with a status code and no details:
//
//	no token, or an invalid one           Unauthenticated
//	a token without a required scope      PermissionDenied
//	no keys to check the token with       Unavailable
//	the call ended while it was waiting   Canceled, DeadlineExceeded
//
// All invalid tokens get the same status. Handlers get the claims from jwks.ClaimsOf. The
// metadata stays in the context, for handlers that call other services for the same user.
// gRPC does not forward it by itself.
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

// A Guard passes on calls with a valid token. A server needs both of its interceptors, Unary
// and Stream: with one of them, the methods of the other kind are open. Methods have their
// full names, such as "/grpc.health.v1.Health/Check".
type Guard struct {
	Verifier *jwks.Verifier // required

	// Scopes lists the scopes that the token must grant for a method, all of them. A method
	// that is not in Scopes needs a valid token and no scope. Check finds misspelled methods.
	Scopes map[string][]string // full method → scopes

	// Open lists the methods that need no token, for example those of health and reflection.
	// A token that is sent to them is ignored, and there are no claims.
	Open []string

	// Refused, if it is not nil, is called with the reason why a call was refused or a stream
	// ended. The errors are those of package jwks: use errors.Is and errors.As. It is for logs
	// and metrics. Neither the metadata of ctx nor why contains the token. Refused is not
	// called if the client left while the Guard was waiting for keys. Without it the Guard says
	// nothing about single calls; a Remote logs when it has no keys, see jwks.RemoteConfig.Log.
	Refused func(ctx context.Context, fullMethod string, why error)
}

// Unary returns the interceptor for calls with one message in each direction. A call that has
// begun may last longer than its token, as an HTTP request may. Unary and Stream panic if
// there is no verifier, if a method or a scope is not valid, and if a method is in both Open
// and Scopes. These are mistakes in the program, and the first call would be too late to
// notice them.
func (g Guard) Unary() grpc.UnaryServerInterceptor {
	h := g.compile()
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		claims, err := h.authorize(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		if claims != nil {
			ctx = jwks.WithClaims(ctx, claims)
		}
		return handler(ctx, req)
	}
}

// Check returns an error that lists the methods of Scopes and Open that s does not serve. Call
// it after the services are registered: if a method is misspelled in Scopes, the real
// method needs no scope.
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
		return fmt.Errorf("the guard names methods that the server does not have: %s", strings.Join(unknown, ", "))
	}
	return nil
}

// A compiledGuard is a checked copy of a Guard. The caller cannot change it.
type compiledGuard struct {
	Guard
	open map[string]bool // full method → true
}

func (g Guard) compile() compiledGuard {
	if g.Verifier == nil || g.Verifier.Audience() == "" {
		panic("jwksgrpc: a Guard needs a Verifier from jwks.NewVerifier")
	}
	h := compiledGuard{Guard: g, open: map[string]bool{}}
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
		panic(fmt.Sprintf("jwksgrpc: %q is not a full method like /package.Service/Method", name))
	}
}

// authorize returns the claims of a call, nil for an open method, or the status that refuses it.
func (h compiledGuard) authorize(ctx context.Context, method string) (*jwks.Claims, error) {
	if h.open[method] {
		return nil, nil
	}
	claims, err := h.verify(ctx, method)
	if err != nil {
		left := errors.Is(err, jwks.ErrUnavailable) && errors.Is(ctx.Err(), context.Canceled)
		if !left {
			h.report(ctx, method, err)
		}
		return nil, h.refusal(ctx, method, err)
	}
	return claims, nil
}

func (h compiledGuard) verify(ctx context.Context, method string) (*jwks.Claims, error) {
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

// refusal returns the status of a call that was refused with why. Every error that it does not
// list means that the token is invalid.
func (h compiledGuard) refusal(ctx context.Context, method string, why error) error {
	switch {
	case errors.Is(why, jwks.ErrScope):
		return status.Error(codes.PermissionDenied, "the token must grant: "+strings.Join(h.Scopes[method], " "))
	case errors.Is(why, jwks.ErrUnavailable) && ctx.Err() != nil: // no time to wait for keys
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(why, jwks.ErrUnavailable):
		return status.Error(codes.Unavailable, "tokens cannot be verified at the moment")
	}
	return unauthenticated()
}

func unauthenticated() error {
	return status.Error(codes.Unauthenticated, "a valid bearer token is required")
}

// report calls Refused with a context whose metadata can be logged.
func (h compiledGuard) report(ctx context.Context, method string, why error) {
	if h.Refused == nil {
		return
	}
	fields, _ := metadata.FromIncomingContext(ctx) // a copy
	fields.Delete("authorization")
	h.Refused(metadata.NewIncomingContext(ctx, fields), method, why)
}
