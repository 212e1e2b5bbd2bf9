// Package console serves pages that show a running server to its operator, in a browser of the same
// machine. It is a client of the admin API, like every other command.
//
//	terminal ──link──▶ browser ──HTTP──▶ Console ──admin socket──▶ server
//
// A console shows everything about a server, so a page is answered only if all of this is true:
//
//   - The connection comes from loopback, and from a process of the user who runs the console, or of the user who
//     called sudo (package peer). Others are closed before a byte is read.
//   - Host is exactly the address that is listened on, so that no page reaches it under a name of its own
//     (DNS rebinding). Sec-Fetch-Site says that no other site asks, and a POST has exactly our Origin.
//   - The path begins with a secret, and a cookie holds another. Both are new for every console. A cookie
//     alone is not enough, because cookies are shared by all ports of a host.
//
// A browser gets both secrets for the code in the link, which is printed in the terminal. It is in the fragment,
// which is sent to no server and stands in no log. A script posts it. A code works once, within a minute, and
// ten wrong ones end it.
//
// A change has a page that asks first (actions.go): it shows the consequence in numbers and the equal command line. Its
// form carries a token that works once and stands for what was shown (confirm.go). If that has changed since, nothing is
// done.
//
// Pages are rendered by html/template and readable without script. One small module (static/console.js) keeps
// the live pages up to date. A strict Content-Security-Policy with Trusted Types forbids every other script.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/console/peer"
	"keymill/cmd/keymill/internal/terminal"
)

// Time limits of a console.
const (
	idleTime = 30 * time.Minute // without a page that someone asked for
	stopTime = time.Second      // for requests that run
)

// Limits of a request. The longest is a filter or a token. The header has room for all cookies that a browser keeps for
// one host: programs on other ports can set them, and must not lock a browser out.
const (
	maxHeaderBytes = 1 << 20
	maxURLBytes    = 4 << 10
	maxBodyBytes   = 16 << 10
)

// A Console serves the pages of one server. All fields must be set.
type Console struct {
	Server *adminapi.Client
	Listen string // an address of loopback
	Open   bool   // hand the link to xdg-open as well
	Out    io.Writer
	Notes  io.Writer // what happens later, usually standard error
}

// Run prints the link and serves the pages until ctx ends, a signal comes, or no page was asked for during 30
// minutes.
func (c *Console) Run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	l, err := listen(c.Listen)
	if err != nil {
		return terminal.WithHint(fmt.Errorf("cannot listen on %s: %w", c.Listen, err), "leave out --listen for a free port")
	}
	var opening sync.WaitGroup // the file of the link is removed before the console ends
	defer opening.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := newSite(l.Addr().String(), c.Server)
	defer c.endIdle(s, end).Stop()
	if err := c.announce(ctx, s); err != nil {
		l.Close()
		return err
	}
	if c.Open {
		opening.Go(func() { c.open(ctx, s) })
	}
	s.watch(ctx)
	return c.serve(ctx, l, s)
}

func listen(address string) (*net.TCPListener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
}

// endIdle calls end when no page of s was asked for for a while.
func (c *Console) endIdle(s *site, end func()) *time.Timer {
	idle := time.AfterFunc(idleTime, func() {
		fmt.Fprintf(c.Notes, "no page was asked for during %d minutes, so the console ends\n", idleTime/time.Minute)
		end()
	})
	s.active = func() { idle.Reset(idleTime) }
	return idle
}

func (c *Console) serve(ctx context.Context, l *net.TCPListener, s *site) error {
	server := &http.Server{
		Handler: s, MaxHeaderBytes: maxHeaderBytes, ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
	}
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(&peer.Listener{TCPListener: l, UIDs: users(os.Getuid(), os.Getenv("SUDO_UID")), Refused: c.noteRefused()})
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("the console cannot accept connections any longer: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// users returns whom the console answers: its own user, and for root the one who called sudo.
func users(own int, sudo string) []int {
	list := []int{own}
	if caller, err := strconv.Atoi(sudo); own == 0 && err == nil && caller > 0 {
		list = append(list, caller)
	}
	return list
}

// noteRefused returns a function that says once that a connection was closed.
func (c *Console) noteRefused() func(net.Addr, error) {
	noted := false
	return func(from net.Addr, err error) {
		if !noted {
			noted = true
			fmt.Fprintf(c.Notes, "a connection from %s was closed (%s): only the user who runs the console, or who called sudo, is answered\n", from, terminal.OneLine(err.Error()))
		}
	}
}

// announce prints the link, and says later if it was not used.
func (c *Console) announce(ctx context.Context, s *site) error {
	_, err := fmt.Fprintf(c.Out, `Open this link within %d seconds. It shows the server of %s:

  %s

It works once, and only for this user. Without script, open %s/login and paste
what follows "#". Ctrl-C ends the console, and so do %d minutes without a new page.
`, linkTime/time.Second, terminal.Printable(c.Server.Name()), s.door.link(s.origin), s.origin, idleTime/time.Minute)
	if err != nil {
		return err
	}
	go func() {
		if expired := s.door.wait(ctx); expired {
			fmt.Fprintln(c.Notes, "the link was not used in time; end the console with Ctrl-C and start it again for a new one")
		}
	}()
	return nil
}

// open hands the link to xdg-open.
func (c *Console) open(ctx context.Context, s *site) {
	if err := openLink(ctx, s.door.link(s.origin), s.door.done); err != nil {
		fmt.Fprintf(c.Notes, "xdg-open did not open the link: %s; open it yourself\n", terminal.OneLine(terminal.Plain(err)))
	}
}
