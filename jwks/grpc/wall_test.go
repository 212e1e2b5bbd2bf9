package jwksgrpc

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestAClockThatIsSetForwardEndsAStream: the timer of a context runs on the monotonic clock. It
// does not notice a wall clock that is set forward, and it stops while a machine sleeps. A test
// can do neither, so a context without a deadline stands for one whose timer is late.
func TestAClockThatIsSetForwardEndsAStream(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		end   time.Time
		want  codes.Code
		tried int // messages that reached the connection
	}{
		{"before exp", t.Context(), time.Now().Add(time.Hour), codes.OK, 2},
		{"after exp", t.Context(), time.Now().Add(-time.Second), codes.Unauthenticated, 1}, // a wait comes first
		{"after its own end", left, time.Now().Add(-time.Second), codes.Canceled, 2},
	} {
		wire := &wire{ended: status.FromContextError(tt.ctx.Err()).Err()}
		s := &stream{wire, tt.ctx, tt.end.Round(0)}
		for act, err := range map[string]error{"sending": s.SendMsg(nil), "receiving": s.RecvMsg(nil)} {
			if status.Code(err) != tt.want {
				t.Errorf("%s: %s: %v, want %v", tt.name, act, err, tt.want)
			}
		}
		if wire.tried != tt.tried {
			t.Errorf("%s: %d messages were tried, want %d", tt.name, wire.tried, tt.tried)
		}
		if outlived := s.ended() != nil; outlived != (tt.want == codes.Unauthenticated) {
			t.Errorf("%s: outlived its token: %v", tt.name, outlived)
		}
	}
}

// A wire is a connection that works, or fails after its call has ended.
type wire struct {
	grpc.ServerStream
	ended error
	tried int
}

func (w *wire) SendMsg(any) error { w.tried++; return w.ended }
func (w *wire) RecvMsg(any) error { w.tried++; return w.ended }
