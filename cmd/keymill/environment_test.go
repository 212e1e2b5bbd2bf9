package main

import (
	"strings"
	"syscall"
	"testing"
)

// TestAServiceOfKubernetesDoesNotStopTheStart: its variables are ignored, with one debug line
// that names them. The other lines stay the same.
func TestAServiceOfKubernetesDoesNotStopTheStart(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	links := []string{
		"KEYMILL_SERVICE_HOST=10.0.0.7", "KEYMILL_SERVICE_PORT=80", "KEYMILL_PORT=tcp://10.0.0.7:80",
		"KEYMILL_PORT_8420_TCP_ADDR=10.0.0.7", "KEYMILL_WEB_PORT=tcp://10.0.0.8:80",
	}
	const line = `level=DEBUG msg="ignoring variables that Kubernetes sets for its Services" ` +
		`variables="KEYMILL_PORT KEYMILL_PORT_8420_TCP_ADDR KEYMILL_SERVICE_HOST KEYMILL_SERVICE_PORT KEYMILL_WEB_PORT"` + "\n"
	for _, level := range []string{"debug", "info"} {
		c := p.startWith(append(p.env(), append(links, "KEYMILL_LOG_LEVEL="+level)...), p.serveArgs()...)
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			t.Errorf("exit code %d", code)
		}
		want := 0
		if level == "debug" {
			want = 1
		}
		if got := c.errs.String(); strings.Count(got, line) != want || strings.Count(got, "Kubernetes") != want {
			t.Errorf("with log.level %s:\n%s", level, got)
		}
	}
	if out, errs, code := p.runWith(append(p.env(), links...), "doctor"); code != 0 {
		t.Errorf("doctor: code %d\n%s%s", code, out, errs)
	}
	_, errs, code := p.runWith(append(p.env(), append(links, "KEYMILL_SERVICE_HOTS=10.0.0.7")...), p.serveArgs()...)
	if code != 1 || !strings.HasPrefix(errs, "keymill: unknown variable KEYMILL_SERVICE_HOTS in the environment\n  hint: ") {
		t.Errorf("a variable of another form: code %d, %s", code, errs)
	}
}
