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

// chromium is Debian's package, which scripts/install-deps installs.
const chromium = "/usr/bin/chromium"

const (
	callLimit = 5 * time.Minute // for one answer of the browser, which usually takes milliseconds
	endLimit  = 2 * time.Minute
)

// flags keep the browser from the network and from throttling. A page in the background must run
// as fast as the one in front, because the tests use two tabs at once.
var flags = []string{
	"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
	"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
	"--disable-breakpad", "--disable-crash-reporter",
	"--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
	"--host-resolver-rules=MAP *.test 127.0.0.1, MAP *.localhost 127.0.0.1, MAP 127.0.0.2 127.0.0.1, " +
		"MAP github.io 127.0.0.1, MAP *.github.io 127.0.0.1, MAP *.co.uk 127.0.0.1, " +
		"MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
	"--remote-debugging-pipe",
}

// A browser is one Chromium with its own data directory.
type browser struct{ *devtools }

// startBrowser starts Chromium. Beside the system's certificates it trusts those whose public
// key has the hash spki. It ends with the test. If the test process dies, the kernel kills it,
// and its children end when the pipes break.
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

// launch starts cmd with the two pipes as files 3 and 4, and ends it with the test.
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

// showLog logs Chromium's messages if the test has failed, without those about a missing
// desktop.
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

// removeAll retries for a while, because children of a browser may still write after it ended.
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

// must is call, and fails the test on an error.
func (d *devtools) must(t *testing.T, session, method string, params object, result any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	if err := d.call(ctx, session, method, params, result); err != nil {
		t.Fatal(err)
	}
}

// missing skips a test that needs something that is not installed. If CI is set it fails the
// test, so that no test is skipped there without notice.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing; scripts/install-deps installs it", what)
}
