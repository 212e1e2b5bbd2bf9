package serve

import (
	"context"
	"errors"
	"net"
	"net/http"

	"keymill/cmd/keymill/internal/connections"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/adminscope"
	"keymill/issuer/endpoint/admin/access"
	"keymill/jwks"
	"keymill/storage"
)

// CheckAdminAudience returns an error if the store has an audience with the name of the built-in one, and
// says what to do.
func CheckAdminAudience(ctx context.Context, s storage.Store) error {
	err := issuer.CheckAdminAudience(ctx, s)
	if errors.Is(err, issuer.ErrAdminAudience) {
		return terminal.WithHint(err, `start the version of Keymill that you used before, add an audience with another name, give it to the clients that have this one, and run "keymill audience remove %s"`, adminscope.Audience)
	}
	return err
}

// maxAdminConnections is enough for programs that administrate. They are among the files that the limit of
// public connections leaves free.
const maxAdminConnections = 100

// openRemote takes the port of admin.listen.
func (s *server) openRemote(context.Context) (err error) {
	if s.config.AdminListen != "" {
		s.remote, err = listenAt(s.config, "admin.listen", s.config.AdminListen)
	}
	return err
}

// adminHosts returns the Host headers that admin.listen answers, nil without it.
func (s *server) adminHosts() *access.Hosts {
	if s.remote == nil {
		return nil
	}
	host, port, _ := net.SplitHostPort(s.remote.Addr().String())
	hosts := &access.Hosts{Port: port, Loopback: jwks.IsLoopback(host), Address: host}
	if s.tls != nil {
		hosts.Certificate = s.tls.Certificate
	}
	return hosts
}

// serveRemote serves the admin API to holders of tokens, if admin.listen is set, and returns the server.
func (s *server) serveRemote(ended chan<- error) []*http.Server {
	if s.remote == nil {
		return nil
	}
	s.callers = connections.New(s.remote, connections.Config{
		Max: maxAdminConnections, TLS: s.tls != nil, Log: s.log, Hint: "find out who holds those of admin.listen, and let a firewall admit only your programs",
	})
	out := s.watched(s.callers, s.endpoints.Remote())
	go func() { ended <- endedError("listener of admin.listen", s.serveOn(s.callers, out)) }()
	s.log.Info("serving the admin API to clients with tokens", "admin", s.remote.Addr().String())
	return []*http.Server{out}
}
