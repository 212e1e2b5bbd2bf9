package verifiers

import (
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/server"
)

// rabbitmq is RabbitMQ's plugin in a process of its own, without the broker. It is not in libraries, because it refuses every
// token without a scope.
func rabbitmq() library {
	needs := func() error {
		if found, _ := filepath.Glob("/usr/lib/rabbitmq/lib/*/plugins/rabbitmq_auth_backend_oauth2-*/ebin"); len(found) == 0 {
			return missing{"the OAuth 2 plugin of Debian's rabbitmq-server"}
		}
		return nil
	}
	return library{name: "rabbitmq", algs: all, sight: seesAFlush, start: program{"rabbitmq", needs, []string{"escript", "service.escript"}}.start,
		gaps: []gap{acceptsNoExp, ignoresNbf, anyIssuer, ignoresType, ignoresCrit, readsLoosely, keepsRevokedKey}, es256: []gap{takesPadding}}
}

// withScope gives every token of the audiences a scope.
func withScope(t *testing.T, srv *server.Server, algs []string) {
	t.Helper()
	for _, alg := range algs {
		scope := audienceOf(alg) + ".read:*/*"
		srv.Run(t, "audience", "set", audienceOf(alg), "--scope", scope)
		srv.Run(t, "client", "set", "billing-"+strings.ToLower(alg), "--scope", scope)
	}
}

// TestWhatTheRabbitMQPageSays about what the plugin checks, as in TestTheMatrix.
func TestWhatTheRabbitMQPageSays(t *testing.T) {
	srv, clients := issuerOf(t, all, slowOfAll, "10m")
	before := map[string]string{} // algorithm → token without a scope
	for alg, c := range clients {
		before[alg] = token(t, srv, c, audienceOf(alg))
	}
	withScope(t, srv, all)
	mints := newMints(t, srv, clients)
	for _, alg := range all {
		c := &candidate{rabbitmq().service(t, srv, alg, 0), map[string]string{}}
		c.accepts(t, mints[alg], clients[alg].ID)
		c.want(t, 401, before[alg], "a token without a scope")
		for _, r := range rowsOf(alg) {
			c.refuses(t, r.column, r.name, r.token(mints[alg]))
		}
		c.want(t, 200, mints[alg].genuine, "the valid token, again")
		c.checkGaps(t)
		t.Logf("counted: %-22s%s", c.name, cells(func(column string) string { return c.cells[column] }))
	}
}
