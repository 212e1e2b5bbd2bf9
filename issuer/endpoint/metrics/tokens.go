package metrics

import "github.com/prometheus/client_golang/prometheus"

// An Outcome is what became of a refresh token that a client presented.
type Outcome int

// The outcomes. A fault of the server is none of them: the client tries again.
const (
	Rotated    Outcome = iota // it was replaced
	Grace                     // it had been replaced within the grace, and its successor was given out again
	LateRetry                 // it had been replaced once, after the grace: the session has ended
	Replay                    // it had been replaced more than once: the session has ended
	RolledBack                // it was newer than the store: the session has ended
	Refused                   // any other refusal: forged, expired, revoked, of another client, …
	outcomes
)

// String returns the value of the label.
func (o Outcome) String() string {
	return [outcomes]string{"rotated", "grace", "late_retry", "replay", "rolled_back", "refused"}[o]
}

// OutcomeOf returns the outcome of a refusal whose reason has that code.
func OutcomeOf(reason string) Outcome {
	for o := LateRetry; o <= RolledBack; o++ {
		if o.String() == reason {
			return o
		}
	}
	return Refused
}

// tokens has the counters of tokens.
type tokens struct {
	issued    map[issue]prometheus.Counter
	refreshed [outcomes]prometheus.Counter
}

type issue struct{ grant, alg string }

func (m *Metrics) makeTokens(grants, algs []string) {
	issued := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "tokens_issued_total", Help: "Access tokens, by grant or login endpoint and by algorithm.",
	}, []string{"grant", "alg"})
	refreshed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "refresh_total", Help: "Refresh tokens that were presented for new tokens, by outcome.",
	}, []string{"outcome"})
	m.registry.MustRegister(issued, refreshed)
	m.issued = map[issue]prometheus.Counter{}
	for _, grant := range grants {
		for _, alg := range algs {
			m.issued[issue{grant, alg}] = issued.WithLabelValues(grant, alg)
		}
	}
	for o := range outcomes {
		m.refreshed[o] = refreshed.WithLabelValues(o.String())
	}
}

// Issued counts an access token.
func (m *Metrics) Issued(grant, alg string) {
	if m == nil {
		return
	}
	if counter := m.issued[issue{grant, alg}]; counter != nil {
		counter.Inc()
	}
}

// Refreshed counts a refresh token that was presented.
func (m *Metrics) Refreshed(o Outcome) {
	if m != nil {
		m.refreshed[o].Inc()
	}
}
