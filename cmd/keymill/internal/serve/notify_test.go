package serve

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/systemd"
)

// TestAFaultOfSystemdIsOneLineAtItsBeginAndOneAtItsEnd, however often a message fails, and so is a server that does not
// answer itself.
func TestAFaultOfSystemdIsOneLineAtItsBeginAndOneAtItsEnd(t *testing.T) {
	var text bytes.Buffer
	s := &server{log: slog.New(slog.NewTextHandler(&text, nil))}
	for _, err := range []error{nil, errors.New("first"), errors.New("second"), errors.New("second"), nil, nil, errors.New("third")} {
		s.tell(err)
		s.alive(err)
	}
	for line, want := range map[string]int{
		`level=WARN msg="cannot notify systemd" error=first`: 1, `level=WARN msg="cannot notify systemd" error=third`: 1, "is notified again": 1,
		"does not answer its own request": 2, "answers its own requests again": 1, "second": 0, "\n": 6,
	} {
		if n := strings.Count(text.String(), line); n != want {
			t.Errorf("%d × %q, want %d, in:\n%s", n, line, want, text.String())
		}
	}
}

// TestNoStateFollowsStopping.
func TestNoStateFollowsStopping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	s := &server{log: slog.New(slog.DiscardHandler), manager: systemd.FromEnvironment()}
	if !s.notify(s.manager.Reloading) {
		t.Error("a message before the stop was not sent")
	}
	s.notifyStop()
	if s.notify(s.manager.Reloading) || s.notify(func() error { return s.manager.Ready("serving") }) {
		t.Error("a message after STOPPING was sent")
	}
	s.manager.Alive() // ends what is read
	for _, want := range []string{"RELOADING=1", "STOPPING=1", "WATCHDOG=1"} {
		got := make([]byte, 1024)
		if n, err := conn.Read(got); err != nil || !strings.HasPrefix(string(got[:n]), want) {
			t.Errorf("%q, %v, want %s", got[:n], err, want)
		}
	}
}
