package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
)

// An endingContext ends when it is asked for the nth time whether it has ended.
type endingContext struct {
	context.Context
	end  context.CancelFunc
	left atomic.Int64
}

func (c *endingContext) Err() error {
	if c.left.Add(-1) <= 0 {
		c.end()
	}
	return c.Context.Err()
}

func (c *endingContext) Done() <-chan struct{} {
	c.Err()
	return c.Context.Done()
}

// TestAStopWhileOpeningIsNotAFailure, at points early and late. What the start made is
// released, so that the next one succeeds.
func TestAStopWhileOpeningIsNotAFailure(t *testing.T) {
	t.Parallel()
	stopped := 0
	for n := int64(1); ; n *= 4 {
		var log bytes.Buffer
		s := &server{
			create: true, config: devConfig(t, filepath.Join(t.TempDir(), "data")), log: slog.New(slog.NewTextHandler(&log, nil)),
		}
		s.queue = newLogQueue(io.Discard, func(int64) []byte { return nil })
		inner, end := context.WithCancel(context.Background())
		ctx := &endingContext{Context: inner, end: end}
		ctx.left.Store(n)
		err := s.open(ctx)
		s.close()
		s.queue.Close()
		end()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped at %d: %v", n, err)
		}
		stopped++
		if got := s.unlessStopped(ctx, err); got != nil || !strings.Contains(log.String(), "stopped before") {
			t.Errorf("stopped at %d: %v", n, got)
		}
	}
	if stopped == 0 {
		t.Error("opening never noticed that it should stop")
	}
	s := &server{log: slog.New(slog.DiscardHandler)}
	ended, cancel := context.WithCancel(t.Context())
	fault := errors.New("the store is damaged")
	if got := s.unlessStopped(ended, fault); got != fault {
		t.Errorf("a fault: %v", got)
	}
	if cancel(); s.unlessStopped(ended, fault) != fault {
		t.Error("a fault is hidden by a signal")
	}
	if s.unlessStopped(t.Context(), context.Canceled) == nil {
		t.Error("without a signal, an error is one")
	}
}

func devConfig(t *testing.T, data string) *config.Config {
	t.Helper()
	c, err := config.Load("", map[string]string{"data": data, "listen": "127.0.0.1:0"}, true)
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPlainHTTPOnANetworkIsWarnedAbout, unless the configuration names a proxy.
func TestPlainHTTPOnANetworkIsWarnedAbout(t *testing.T) {
	proxy := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		listen, issuer string
		proxies        []netip.Prefix
		warnings       []string
	}{
		{"127.0.0.1:8420", "https://id.example.com", nil, nil},
		{"[::1]:8420", "https://id.example.com", nil, nil},
		{"127.0.0.1:8420", "http://127.0.0.1:8420", nil, nil},
		{"127.0.0.1:8420", "http://localhost:8420", nil, nil},
		{"0.0.0.0:8420", "https://id.example.com", nil, []string{"plain http on an address"}},
		{"[::]:8420", "https://id.example.com", nil, []string{"plain http on an address"}},
		{"192.0.2.1:8420", "https://id.example.com", nil, []string{"plain http on an address"}},
		{"192.0.2.1:8420", "https://id.example.com", proxy, nil},
		{"192.0.2.1:8420", "http://192.0.2.1:8420", nil, []string{"plain http on an address", "the issuer is plain http"}},
		{"127.0.0.1:8420", "http://id.internal", proxy, []string{"the issuer is plain http"}},
	} {
		var log bytes.Buffer
		s := &server{
			config: &config.Config{Issuer: tt.issuer, TrustedProxies: tt.proxies},
			log:    slog.New(slog.NewTextHandler(&log, nil)), public: boundTo(tt.listen),
		}
		s.warnOfPlainHTTP()
		if strings.Count(log.String(), "level=WARN") != len(tt.warnings) {
			t.Errorf("%s, %s, %v: %s", tt.listen, tt.issuer, tt.proxies, log.String())
		}
		for _, w := range tt.warnings {
			if !strings.Contains(log.String(), w) {
				t.Errorf("%s, %s: not %q in %s", tt.listen, tt.issuer, w, log.String())
			}
		}
	}
}

// TestMetricsOnANetworkAreWarnedAbout: anyone who reaches them can read them.
func TestMetricsOnANetworkAreWarnedAbout(t *testing.T) {
	for listen, warned := range map[string]bool{
		"127.0.0.1:9420": false, "127.1.2.3:9420": false, "[::1]:9420": false, "0.0.0.0:9420": true, "[::]:9420": true, "192.0.2.1:9420": true,
	} {
		var log bytes.Buffer
		s := &server{log: slog.New(slog.NewTextHandler(&log, nil)), monitor: boundTo(listen)}
		s.warnOfMetrics()
		if got := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), listen); got != warned {
			t.Errorf("%s: %s", listen, log.String())
		}
	}
}

// TestATrialAnswersItsHostsAtBothPorts: a page that rebinds its name to loopback gets 421 at both.
func TestATrialAnswersItsHostsAtBothPorts(t *testing.T) {
	s := &server{config: &config.Config{Dev: true, Issuer: "http://127.0.0.1:8420"}, public: boundTo("127.0.0.1:8420"), monitor: boundTo("127.0.0.1:9420")}
	hosts := s.trialHosts()
	for _, want := range []string{"localhost:8420", "127.0.0.1:8420", "localhost:9420", "127.0.0.1:9420", "[::1]:9420"} {
		if !slices.Contains(hosts, want) {
			t.Errorf("%s is not among %v", want, hosts)
		}
	}
	if s.monitor = nil; slices.Contains(s.trialHosts(), "localhost:9420") {
		t.Error("a port without metrics.listen")
	}
}

// boundTo is a listener that says where it listens, because a test cannot bind every address.
type boundTo string

func (boundTo) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (boundTo) Close() error              { return nil }
func (b boundTo) Addr() net.Addr          { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(string(b))) }

// TestLogLinesCannotTurnTheText in either format.
//
// R104.
func TestLogLinesCannotTurnTheText(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var level slog.LevelVar
		log, queue := newLog(format, &level, w)
		for _, text := range []string{"\u202egpj.exe", "\u2066a", "a\u009b2J", "\x7f", "line\u2028", "plain Zoë"} {
			log.Info("request refused", "err", text)
		}
		queue.Close()
		w.Close()
		r.SetReadDeadline(time.Now().Add(time.Minute))
		lines, err := io.ReadAll(r)
		if err != nil || bytes.Count(lines, []byte("\n")) != 6 || !bytes.Contains(lines, []byte("plain Zoë")) || bytes.ContainsAny(lines, "\u202e\u2066\u009b\u2028\x7f") {
			t.Errorf("%s: %v, %s", format, err, lines)
		}
	}
}
