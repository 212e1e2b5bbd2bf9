package jwksgrpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keymill/jwks"
)

// errOutlived is the reason for a stream that ends before its handler returns.
var errOutlived = fmt.Errorf("%w: the stream outlived its token", jwks.ErrExpired)

// Stream returns the interceptor for streams. It checks the token when a stream opens, and the
// stream ends with its token: at exp plus the leeway of the verifier its context ends, and no
// message passes in either direction after that. The client gets Unauthenticated, and opens
// another stream with a new token. Otherwise a client whose login was revoked could
// continue to listen.
//
// The end is a deadline of the context, so calls that the handler makes with that context end
// too. A handler that waits in Recv notices the end at the next message, which it does not
// get, or when the connection ends. A handler that must notice it earlier waits for its
// context as well. If the clock is set forward or the machine sleeps, the deadline is late,
// but no message passes.
func (g Guard) Stream() grpc.StreamServerInterceptor {
	h := g.compile()
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		claims, err := h.authorize(ss.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		if claims == nil {
			return handler(srv, ss)
		}
		end := claims.Expires.Add(h.Verifier.Leeway())
		ctx, cancel := context.WithDeadlineCause(ss.Context(), end, errOutlived)
		defer cancel()
		s := &stream{ss, jwks.WithClaims(ctx, claims), end}
		err = handler(srv, s)
		if s.ended() != nil && byContext(err) {
			h.report(ss.Context(), info.FullMethod, errOutlived)
			return unauthenticated()
		}
		return err
	}
}

// A stream passes messages until its token expires.
type stream struct {
	grpc.ServerStream
	ctx context.Context // of the call; ends at end
	end time.Time       // exp plus the leeway, without a monotonic clock reading
}

// Context returns the context with the claims and the deadline.
func (s *stream) Context() context.Context { return s.ctx }

// SendMsg fails once the token has expired.
func (s *stream) SendMsg(m any) error {
	if err := s.ended(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg fails once the token has expired. It checks that after the wait for a message, which
// may be long.
func (s *stream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if ended := s.ended(); ended != nil {
		return ended
	}
	return err
}

// ended returns nil before end, and if the call ended for another reason. It checks the wall
// clock as well as the context. The timer of the context runs on the monotonic clock: it
// does not notice a wall clock that is set forward, it stops while the machine sleeps, and it
// is always a moment late.
func (s *stream) ended() error {
	switch cause := context.Cause(s.ctx); {
	case cause == errOutlived, cause == nil && !time.Now().Before(s.end):
		return unauthenticated()
	}
	return nil
}

// byContext reports whether a handler failed because its context ended, or because a message
// did not pass for that reason. Other errors are the handler's own.
func byContext(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unauthenticated:
		return true
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
