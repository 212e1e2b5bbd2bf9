package crash

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// TestAHungStoreIsNotReady: while the disk holds a commit up, /readyz, the metrics, the admin API and healthcheck say so,
// and the log does once. All of them end with the hang, and the change that waited is done.
func TestAHungStoreIsNotReady(t *testing.T) {
	if os.Geteuid() != 0 {
		inOwnNamespace(t) // only root may trace the server, which is not dumpable
		return
	}
	strace := needStrace(t)
	metrics, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	srv := server.Start(t, server.Options{Config: "keys: {algorithms: [EdDSA]}\nmetrics: {listen: '" + metrics + "'}"})
	awaitGauge(t, metrics, "keymill_ready 1")
	tracer, err := server.Launch(exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
		"-e", "inject=fdatasync:delay_enter=600s", "-p", fmt.Sprint(srv.PID())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracer.Close() })
	await(t, "strace to attach to every thread", func() bool { return traced(srv.PID()) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := make(chan error, 1)
	go func() {
		_, errs, err := srv.Verb(ctx, "audience", "add", "orders", "--data", srv.Data)
		if err != nil {
			err = fmt.Errorf("%w: %s", err, errs)
		}
		changed <- err
	}()

	const issue = "the store hangs: a commit has not ended within 5s"
	await(t, "readyz to fail", func() bool { return !isReady(srv) && strings.Contains(srv.Log(), issue) })
	awaitGauge(t, metrics, "keymill_ready 0")
	out, errs, err := srv.Verb(t.Context(), "healthcheck", "--data", srv.Data)
	if err == nil || !strings.Contains(errs, "not ready: "+issue) {
		t.Errorf("healthcheck: %v, %q, %q", err, out, errs)
	}
	select {
	case err := <-changed:
		t.Errorf("the change ended while the disk hung: %v", err)
	default:
	}
	tracer.Close()
	if err := <-changed; err != nil {
		t.Error(err)
	}
	await(t, "readyz to pass", func() bool { return isReady(srv) && strings.Contains(srv.Log(), "ready again") })
	awaitGauge(t, metrics, "keymill_ready 1")
	if n := strings.Count(srv.Log(), `"not ready"`); n != 1 {
		t.Errorf("%d lines: %s", n, srv.Log())
	}
	if err := srv.Stop(); err != nil {
		t.Error(err)
	}
}

// isReady asks /readyz. It waits first, because it is asked in a loop.
func isReady(srv *server.Server) bool {
	time.Sleep(100 * time.Millisecond)
	status, _, err := srv.Get(context.Background(), "/readyz")
	return err == nil && status == http.StatusOK
}

func awaitGauge(t *testing.T, address, line string) {
	t.Helper()
	await(t, line, func() bool {
		time.Sleep(100 * time.Millisecond)
		resp, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), "\n"+line+"\n")
	})
}
