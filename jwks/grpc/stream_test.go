package jwksgrpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"keymill/jwks"
	jwksgrpc "keymill/jwks/grpc"
)

// These tests run in synctest bubbles, where time passes only while every goroutine waits. So a
// stream is always open before its token expires, however busy the machine is, and it ends at
// exactly that time.

// brief is the lifetime of the tokens of these tests.
const brief = time.Second

// lasting returns a token with the lifetime d.
func lasting(d time.Duration) string {
	return token("exp", float64(time.Now().Add(d).UnixMilli())/1000)
}

// TestAStreamEndsWithItsToken, whatever its handler does, and the client gets Unauthenticated. A
// status of the handler itself is passed on.
func TestAStreamEndsWithItsToken(t *testing.T) {
	waits := func(s grpc.ServerStream) error { <-s.Context().Done(); return s.Context().Err() }
	for _, tt := range []struct {
		name     string
		converse func(grpc.ServerStream) error
		code     codes.Code
		told     bool
	}{
		{"waits", waits, codes.Unauthenticated, true},
		{"says how it ended", func(s grpc.ServerStream) error {
			return status.FromContextError(waits(s)).Err()
		}, codes.Unauthenticated, true},
		{"sends", func(s grpc.ServerStream) error {
			for {
				if err := s.SendMsg(wrapperspb.String(".")); err != nil {
					return err
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, codes.Unauthenticated, true},
		{"receives", func(s grpc.ServerStream) error {
			for {
				if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
					return err
				}
			}
		}, codes.Unauthenticated, true},
		{"fails", func(s grpc.ServerStream) error { waits(s); return status.Error(codes.DataLoss, "lost") }, codes.DataLoss, false},
		{"is done", func(s grpc.ServerStream) error { waits(s); return nil }, codes.OK, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, jwksgrpc.Guard{}, func(t *testing.T, w *world) {
				w.converse = tt.converse
				begin := time.Now()
				err := w.chat(with(lasting(brief)), 10*time.Millisecond)
				if took := time.Since(begin); status.Code(err) != tt.code || took != brief {
					t.Errorf("%v after %v, want %v after %v", err, took, tt.code, brief)
				}
				if _, whys := w.heard(); (len(whys) == 1 && errors.Is(whys[0], jwks.ErrExpired)) != tt.told || len(whys) > 1 {
					t.Errorf("Refused got %v", whys)
				}
			})
		})
	}
}

// TestNoMessagePassesAfterExp: a message that is in transit at exp is not delivered, even to a
// handler that waits for it.
func TestNoMessagePassesAfterExp(t *testing.T) {
	inBubble(t, jwksgrpc.Guard{}, func(t *testing.T, w *world) {
		received := make(chan error, 3)
		w.converse = func(s grpc.ServerStream) error {
			received <- s.RecvMsg(new(wrapperspb.StringValue)) // waits past exp
			received <- s.RecvMsg(new(wrapperspb.StringValue))
			err := s.SendMsg(wrapperspb.String("x"))
			received <- err
			return err
		}
		said, err := w.talkAfter(with(lasting(brief)), brief+brief/2)
		if said != "" || status.Code(err) != codes.Unauthenticated {
			t.Errorf("the client gets %q, %v", said, err)
		}
		for _, act := range []string{"waiting to receive", "receiving", "sending"} {
			if err := await(t, act, received); status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s after exp: %v", act, err)
			}
		}
	})
}

// TestTheLeewayAppliesToStreams: a token that is accepted after exp opens a stream that stays
// open until the leeway is over.
func TestTheLeewayAppliesToStreams(t *testing.T) {
	guard := jwksgrpc.Guard{Verifier: verifier(t, func(c *jwks.VerifierConfig) { c.Leeway = 2 * time.Second })}
	inBubble(t, guard, func(t *testing.T, w *world) {
		left := make(chan time.Duration, 1)
		w.converse = func(s grpc.ServerStream) error {
			deadline, _ := s.Context().Deadline()
			left <- time.Until(deadline)
			return s.Context().Err()
		}
		if _, err := w.talk(with(lasting(-time.Second))); err != nil {
			t.Errorf("within the leeway: %v", err)
		}
		if left := await(t, "the handler", left); left != time.Second {
			t.Errorf("the stream has %v left, want 1s", left)
		}
	})
}

// TestAStreamMayEndBeforeItsToken: a deadline or a cancellation by the client before exp is not reported
// as the end of the token.
func TestAStreamMayEndBeforeItsToken(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leaves bool // before its deadline
		code   codes.Code
	}{
		{"a deadline", false, codes.DeadlineExceeded},
		{"a goodbye", true, codes.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, jwksgrpc.Guard{}, func(t *testing.T, w *world) {
				entered, ended := make(chan struct{}), make(chan error, 1)
				w.converse = func(s grpc.ServerStream) error {
					close(entered)
					<-s.Context().Done()
					err := s.RecvMsg(new(wrapperspb.StringValue))
					ended <- err
					return err
				}
				ctx, leave := context.WithTimeout(with(token()), brief)
				defer leave()
				heard := make(chan error, 1)
				go func() { _, err := w.talk(ctx); heard <- err }()
				await(t, "the handler's begin", entered)
				if tt.leaves {
					leave()
				}
				if err := await(t, "the client", heard); status.Code(err) != tt.code {
					t.Errorf("the client gets %v, want %v", err, tt.code)
				}
				if err := await(t, "the handler's end", ended); err == nil || status.Code(err) == codes.Unauthenticated {
					t.Errorf("the handler gets %v", err)
				}
				w.server.GracefulStop() // waits for the interceptor, which may call Refused
				if _, whys := w.heard(); len(whys) != 0 {
					t.Errorf("Refused got %v", whys)
				}
			})
		})
	}
}

// inBubble runs a test in a bubble with a world: real gRPC over a connection in memory, since a
// bubble cannot see that a socket waits.
func inBubble(t *testing.T, g jwksgrpc.Guard, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(64 << 10)
		dial := func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
		test(t, serve(t, g, listener, grpc.WithContextDialer(dial)))
	})
}

// await receives once, and fails the test if it would wait forever.
func await[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("%s: nothing in %v", what, patience)
		panic("not reached")
	}
}

// chat sends a message at intervals until the stream ends.
func (w *world) chat(ctx context.Context, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, talk)
	if err != nil {
		return err
	}
	go func() {
		for s.SendMsg(wrapperspb.String("?")) == nil {
			select {
			case <-s.Context().Done(): // time stands still at the end of a bubble
			case <-time.After(every):
			}
		}
	}()
	return hear(s)
}

// talkAfter waits, sends two messages, and reads.
func (w *world) talkAfter(ctx context.Context, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := w.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, talk)
	if err != nil {
		return "", err
	}
	time.Sleep(wait)
	for range 2 {
		if err := s.SendMsg(wrapperspb.String("?")); err != nil {
			return "", err
		}
	}
	heard := new(wrapperspb.StringValue)
	err = s.RecvMsg(heard)
	return heard.Value, err
}

// hear reads to the end.
func hear(s grpc.ClientStream) error {
	for {
		if err := s.RecvMsg(new(wrapperspb.StringValue)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
