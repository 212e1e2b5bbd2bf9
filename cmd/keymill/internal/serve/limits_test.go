package serve

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// limitRows returns the table of limits in docs/operate.md: the limit → its value.
func limitRows(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Limits\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			rows[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[2])
		}
	}
	delete(rows, "limit")
	delete(rows, "---")
	return rows
}

// TestTheDocumentHasTheLimitsOfTheListeners. Package endpoint compares those of requests.
func TestTheDocumentHasTheLimitsOfTheListeners(t *testing.T) {
	rows := limitRows(t)
	http2 := (&server{log: slog.New(slog.DiscardHandler)}).httpServer(nil).HTTP2
	ofEndpoint := []string{"header, lines", "body of a request", "parameters of a form or a query"}
	most := ""
	for _, s := range config.Settings() {
		if s.Key == "http.max_connections" {
			most = s.Default
		}
	}
	for limit, want := range map[string]string{
		"connections at a time":                             fmt.Sprintf("%s, or `http.max_connections`, and %d fewer than", most, reservedFiles),
		"time for a TLS handshake and the header":           fmt.Sprint(readHeaderTime),
		"time for the whole request":                        fmt.Sprint(readTime),
		"time for the answer":                               fmt.Sprint(writeTime),
		"time between two requests":                         fmt.Sprint(idleTime),
		"header, bytes":                                     fmt.Sprintf("%d KiB,", maxHeaderBytes>>10),
		"requests at a time on a connection of HTTP/2":      fmt.Sprint(maxStreams),
		"bytes of a request of HTTP/2 that wait to be read": fmt.Sprintf("%d KiB", streamBytes>>10),
		"silence of a client on a connection of HTTP/2":     fmt.Sprintf("%s, and then %s for", http2.SendPingTimeout, http2.PingTimeout),
		"time of requests in flight after SIGTERM":          fmt.Sprint(DrainTime),
		"time of a whole stop":                              fmt.Sprint((stopLimit + flushTime + 200*time.Millisecond).Round(time.Second)),
	} {
		if got, found := rows[limit]; !found || !strings.HasPrefix(got, want) {
			t.Errorf("docs/operate.md, limits: %s is %q, want %q", limit, got, want)
		}
		delete(rows, limit)
	}
	for limit := range rows {
		if !slices.Contains(ofEndpoint, limit) {
			t.Errorf("docs/operate.md has the limit %q, which no test knows", limit)
		}
	}
}

// TestTheProcessNeverTakesMoreConnectionsThanFiles.
func TestTheProcessNeverTakesMoreConnectionsThanFiles(t *testing.T) {
	for _, tt := range []struct {
		files  uint64
		wanted int
		want   int
	}{
		{65536, 10000, 10000}, {10200, 10000, 10000}, {10199, 10000, 9999}, {1024, 10000, 824}, {210, 10000, 10}, {100, 10000, 10},
		{^uint64(0), 1_000_000, 1_000_000}, {1024, 100, 100},
	} {
		if got := permittedBy(tt.files, reservedFiles, tt.wanted); got != tt.want {
			t.Errorf("%d files, %d connections: %d, want %d", tt.files, tt.wanted, got, tt.want)
		}
	}
}

// TestAnAddressThatCannotBeTakenHasANextStep: a port below 1024, an address of another machine, and a port in use.
func TestAnAddressThatCannotBeTakenHasANextStep(t *testing.T) {
	c := devConfig(t, t.TempDir())
	for errno, want := range map[syscall.Errno]string{
		syscall.EACCES: "CAP_NET_BIND_SERVICE, or keymill.socket", syscall.EPERM: "CAP_NET_BIND_SERVICE", syscall.EADDRNOTAVAIL: `"ip address" lists`,
		syscall.EADDRINUSE: "another program has the port",
	} {
		if hint := listenHint(c, "listen", errno); !strings.Contains(hint, want) {
			t.Errorf("%v: %q", errno, hint)
		}
	}
	_, err := listenAt(c, "listen", "192.0.2.1:0") // RFC 5737: no machine has it
	if err == nil || !strings.Contains(terminal.HintOf(err), `"ip address" lists`) || !strings.Contains(err.Error(), "cannot listen on 192.0.2.1:0") {
		t.Errorf("%v, %q", err, terminal.HintOf(err))
	}
}
