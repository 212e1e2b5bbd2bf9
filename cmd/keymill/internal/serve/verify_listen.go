package serve

import (
	"context"
	"net/http"
	"net/netip"

	"keymill/cmd/keymill/internal/connections"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/unixsocket"
)

// maxVerifyConnections is enough for the proxies of one machine: a question takes less than a millisecond. They are
// reserved in addition to reservedFiles.
const maxVerifyConnections = 256

// openVerify listens where verify.listen says. The group of a socket can use it, so that a proxy of another user can ask.
func (s *server) openVerify(context.Context) (err error) {
	const key = "verify.listen"
	if path := s.config.VerifySocket(); path != "" {
		if s.verify, err = unixsocket.Claim(path, 0o660); err != nil {
			return terminal.WithHint(s.config.SettingError(key, "%v", err), "%s", terminal.HintOf(err))
		}
		return nil
	}
	if s.config.VerifyListen == "" {
		return nil
	}
	l, err := listenAt(s.config, key, s.config.VerifyListen)
	if err != nil {
		return err
	}
	// A name such as localhost can be anything in the file of hosts.
	if at, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !at.Addr().IsLoopback() {
		l.Close()
		return s.config.SettingError(key, "%q is %s, which is not loopback", s.config.VerifyListen, l.Addr())
	}
	s.verify = l
	return nil
}

// serveVerify answers proxies, if verify.listen is set, and returns the server.
func (s *server) serveVerify(ended chan<- error) []*http.Server {
	if s.verify == nil {
		return nil
	}
	s.askers = connections.New(s.verify, connections.Config{
		Max: maxVerifyConnections, Log: s.log, Hint: "find out who holds those of verify.listen, and let proxies keep theirs open between requests",
	})
	out := s.watched(s.askers, s.endpoints.Verify())
	go func() { ended <- endedError("listener of verify.listen", out.Serve(s.askers)) }()
	s.log.Info("answering proxies", "verify", s.verify.Addr().String())
	return []*http.Server{out}
}
