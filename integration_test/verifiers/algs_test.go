package verifiers

import (
	"context"
	"errors"
	"testing"
)

// TestAMissingAlgorithmIsMissing: a library that is said to lack an algorithm refuses
// good tokens of it, or to start at all, when it is asked for just that. The matrix
// shows that the same program accepts the algorithms that it has.
func TestAMissingAlgorithmIsMissing(t *testing.T) {
	srv, clients := issuer(t, "", "15m")
	for _, m := range makers() {
		for _, alg := range m.lacks {
			t.Run(m.name+" "+alg, func(t *testing.T) {
				s := m.prepare(t, alg)
				var err error
				s.url, err = m.start(t, settings{issuer: srv.Issuer, audience: s.audience, alg: alg})
				if isMissing(err) || errors.Is(err, context.DeadlineExceeded) { // to be slow is no refusal
					unless(t, err)
				}
				if err != nil {
					t.Logf("it does not start: %v", err)
					return
				}
				s.want(t, 401, token(t, srv, clients[alg], s.audience), "a good token")
			})
		}
	}
}
