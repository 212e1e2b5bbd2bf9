package browser

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// chromium is Debian's, which scripts/install-deps brings.
const chromium = "/usr/bin/chromium"

const (
	callLimit = 5 * time.Minute // for one answer of the browser, which takes milliseconds
	endLimit  = 2 * time.Minute
)

// flags keep the browser on this machine and at work. A page in the background has to
// run as fast as the one in front, because two tabs race here.
var flags = []string{
	"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
	"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
	"--disable-breakpad", "--disable-crash-reporter",
	"--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
	"--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
	"--remote-debugging-pipe",
}

// A browser is one Chromium with a profile directory of its own.
type browser struct{ *devtools }

// startBrowser starts Chromium, which trusts certificates with the public key whose
// hash is spki and no other that the system does not trust. It ends with the test, and
// with the process however that ends: the kernel kills it, and its children go when
// the pipes break.
func startBrowser(t *testing.T, spki string) *browser {
	t.Helper()
	if _, err := os.Stat(chromium); err != nil {
		missing(t, "Debian's chromium")
	}
	dir, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { showLog(t, log) })
	cmd := exec.Command(chromium, append(flags,
		"--user-data-dir="+filepath.Join(dir, "profile"),
		"--ignore-certificate-errors-spki-list="+spki)...)
	cmd.Env = append(server.Environment(), "HOME="+dir, "TMPDIR="+dir)
	cmd.Stderr = log
	b := &browser{launch(t, cmd)}
	var version struct{ Product string }
	b.must(t, "", "Browser.getVersion", nil, &version)
	t.Log(version.Product)
	return b
}

// launch starts cmd with the two pipes, as its files 3 and 4, and ends it with the test.
func launch(t *testing.T, cmd *exec.Cmd) *devtools {
	t.Helper()
	theirIn, out := pipe(t)
	in, theirOut := pipe(t)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	companion, err := server.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	d := newDevtools(in, out)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endLimit)
		defer cancel()
		d.call(ctx, "", "Browser.close", nil, nil)
		select {
		case <-companion.Done():
		case <-ctx.Done():
			t.Error("Chromium did not end when asked to")
		}
		companion.Close()
	})
	return d
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// showLog tells what Chromium complained about, if the test has failed. Most of it is
// about a desktop that is not there.
func showLog(t *testing.T, log *os.File) {
	defer log.Close()
	if !t.Failed() {
		return
	}
	text, err := os.ReadFile(log.Name())
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "dbus/") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Log(err)
	}
}

// removeAll tries for a while: the last children of a browser may still be writing
// when it is gone.
func removeAll(t *testing.T, dir string) {
	for deadline := time.Now().Add(endLimit); ; time.Sleep(20 * time.Millisecond) {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Error(err)
			return
		}
	}
}

// must is call for a test that has no use for failure.
func (d *devtools) must(t *testing.T, session, method string, params object, result any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	if err := d.call(ctx, session, method, params, result); err != nil {
		t.Fatal(err)
	}
}

// missing skips a test whose real part is not installed. Where everything has to be
// there, that is a failure: a skipped proof proves nothing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing; scripts/install-deps brings it", what)
}
