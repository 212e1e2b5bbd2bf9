package verifiers

import (
	"context"
	"errors"
	"testing"
)

// TestAMissingAlgorithmIsRefused: a library that lacks an algorithm, as its entry says, refuses
// valid tokens of it or does not start. TestTheMatrix shows that the same program accepts the
// algorithms that it has.
func TestAMissingAlgorithmIsRefused(t *testing.T) {
	srv, clients := issuerOf(t, all, slowOfAll, "15m")
	for _, l := range libraries() {
		for _, alg := range l.lacks {
			t.Run(l.name+" "+alg, func(t *testing.T) {
				s := l.prepare(t, alg)
				var err error
				s.url, err = l.start(t, settings{issuer: srv.Issuer, audience: s.audience, alg: alg})
				if isMissing(err) || errors.Is(err, context.DeadlineExceeded) { // a slow start is no refusal
					didNotStart(t, err)
				}
				if err != nil {
					t.Logf("the service does not start: %v", err)
					return
				}
				s.want(t, 401, token(t, srv, clients[alg], s.audience), "a valid token")
			})
		}
	}
}
