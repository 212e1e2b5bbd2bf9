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

// errOutlived is why a stream ends before its handler does.
var errOutlived = fmt.Errorf("%w: the stream outlived its token", jwks.ErrExpired)

// Stream returns the interceptor for streams. The token is checked when one opens, and a
// stream lives no longer than its token: at exp, and the verifier's leeway, its context
// ends and no message passes any more, either way. The client gets Unauthenticated, and
// opens another stream with a new token. To go on would be to let a login that was revoked
// listen for as long as it likes.
//
// The end is a deadline, so the calls that a handler makes with its context end with it. A
// handler that waits in Recv for a silent client notices at the next message, which it does
// not get, or when the connection ends; one that cares waits for its context, too. Where the
// clock is set forward or the machine sleeps the deadline is late, but no message passes.
func (g Guard) Stream() grpc.StreamServerInterceptor {
	h := g.hold()
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		claims, err := h.admit(ss.Context(), info.FullMethod)
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
			h.tell(ss.Context(), info.FullMethod, errOutlived)
			return unauthenticated()
		}
		return err
	}
}

// A stream ends with its token.
type stream struct {
	grpc.ServerStream
	ctx context.Context // of the call, until exp
	end time.Time       // exp and the leeway, without a monotonic part
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) SendMsg(m any) error {
	if err := s.ended(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg judges after the wait, which may have been a long one.
func (s *stream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if ended := s.ended(); ended != nil {
		return ended
	}
	return err
}

// ended is nil before exp, and if the call ended for a reason of its own. The wall clock has
// a say of its own: the context's timer does not hear of one that is set forward, stands
// still while the machine sleeps, and is a moment late on any day.
func (s *stream) ended() error {
	switch cause := context.Cause(s.ctx); {
	case cause == errOutlived, cause == nil && !time.Now().Before(s.end):
		return unauthenticated()
	}
	return nil
}

// byContext reports whether a handler failed because its context ended, or a message of its
// stream did not pass for that. Other errors are the handler's own.
func byContext(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unauthenticated:
		return true
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
