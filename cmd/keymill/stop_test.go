package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/serve"
	"keymill/issuer/api"
)

// TestSIGTERMUnderLoadFinishesWhatItBegan: every answer that a client reads is a complete 200,
// later connections are refused, and the process ends with 0 in time.
//
// I18.
func TestSIGTERMUnderLoadFinishesWhatItBegan(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
	var billing api.Client
	p.must(&billing, "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--json")

	var good, broken atomic.Int64
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			client := &http.Client{Timeout: failsafe, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				status, body, err := requestToken(client, c.address, billing.ID, string(billing.Secret))
				switch {
				case err == nil && status == http.StatusOK && strings.Contains(string(body), `"access_token"`):
					good.Add(1)
				case errors.Is(err, syscall.ECONNREFUSED):
					return
				case err != nil && isClosedConnection(err):
					// The server closed an idle connection while the request was on its way. It
					// did nothing for the request, and the next connection is refused.
				default:
					broken.Add(1)
					t.Errorf("status %d, %v, %s", status, err, body)
					return
				}
			}
		})
	}
	if !eventually(failsafe, func() bool { return good.Load() > 200 }) {
		t.Fatalf("only %d tokens", good.Load())
	}
	began := time.Now()
	c.signal(syscall.SIGTERM)
	code := c.wait(failsafe)
	load.Wait()
	t.Logf("%d tokens, ended after %v", good.Load(), time.Since(began))
	if code != 0 || broken.Load() != 0 {
		t.Errorf("exit code %d, %d broken answers", code, broken.Load())
	}
	if _, err := os.Lstat(filepath.Join(p.data, "admin.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	out := p.must(nil, "doctor")
	if strings.Contains(out, "FAILED") {
		t.Errorf("doctor:\n%s", out)
	}
}

func isClosedConnection(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || strings.Contains(err.Error(), "server closed idle connection")
}

// slowRequest sends a request without the end of its body. finish sends the rest and returns
// the answer.
func slowRequest(t *testing.T, c *child) (finish func() string) {
	t.Helper()
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	const body = "grant_type=client_credentials"
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", c.address, len(body))
	// The server says 100 as soon as the handler reads: from then on the request is in flight.
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("instead of 100 Continue: %q, %v", line, err)
	}
	lines.ReadString('\n') // the end of its header
	io.WriteString(conn, body[:5])
	return func() string {
		io.WriteString(conn, body[5:])
		resp, err := http.ReadResponse(lines, nil)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s %v", resp.StatusCode, answer, err)
	}
}

// TestARequestInFlightIsAnswered although the signal comes before its end.
//
// I18.
func TestARequestInFlightIsAnswered(t *testing.T) {
	t.Parallel()
	c := newPlace(t).start()
	finish := slowRequest(t, c)
	c.signal(syscall.SIGTERM)
	if !eventually(failsafe, func() bool {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}) {
		t.Error("new connections are still accepted")
	}
	if answer := finish(); !strings.HasPrefix(answer, "401 ") && !strings.HasPrefix(answer, "400 ") {
		t.Errorf("the answer: %s", answer)
	}
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestAClientThatNeverFinishesCannotHoldTheServer for longer than DrainTime.
//
// I18.
func TestAClientThatNeverFinishesCannotHoldTheServer(t *testing.T) {
	t.Parallel()
	c := newPlace(t).start()
	slowRequest(t, c)
	began := time.Now()
	c.signal(syscall.SIGINT)
	// The client holds its connection all the time, so that only the server can end this. Its
	// last resort, which is to exit some seconds after the drain, has another code.
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took < serve.DrainTime/2 {
		t.Errorf("ended after %v; requests in flight have %v", took, serve.DrainTime)
	}
}

// TestASecondSignalEndsAtOnce, without waiting for requests in flight.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	c := newPlace(t).start()
	slowRequest(t, c)
	c.signal(syscall.SIGTERM)
	if !eventually(failsafe, func() bool {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}) {
		t.Fatal("the first signal did nothing")
	}
	c.signal(syscall.SIGTERM)
	// A drain to its end has the exit code 0.
	if code := c.wait(failsafe); code == 0 {
		t.Error("the exit code of a forced end is 0")
	}
}

// TestAStartThatWaitsForItsKeyCanBeEnded: a FIFO may never get a writer.
func TestAStartThatWaitsForItsKeyCanBeEnded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	fifo := filepath.Join(p.dir, "master.key")
	if err := errors.Join(os.Remove(fifo), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(p.binary, p.serveArgs()...)
	cmd.Env, cmd.SysProcAttr = p.env(), &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var w *os.File // opens without blocking only if there is a reader
	if !eventually(failsafe, func() (reads bool) {
		var err error
		w, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	}) {
		t.Fatal("the server does not read the master key")
	}
	defer w.Close()
	cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(failsafe, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("SIGTERM did not end it: %v", cmd.ProcessState)
	}
}

// TestAFailedStoreEndsTheProcess: after a failed sync no one knows what is durable. The server
// fails readyz, still serves the keys from memory, and ends soon with an error, so that
// a restart reads what the disk really has.
//
// I11.
func TestAFailedStoreEndsTheProcess(t *testing.T) {
	t.Parallel()
	strace := needStrace(t)
	p := newPlace(t)
	c := p.start()
	tracer := exec.Command(strace, "-f", "-qq", "-o", os.DevNull, "-e", "trace=fdatasync,fsync",
		"-e", "inject=fdatasync,fsync:error=EIO", "-p", fmt.Sprint(c.cmd.Process.Pid))
	tracer.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { tracer.Process.Kill(); tracer.Wait() }()

	get := func(path string) int {
		client := &http.Client{Timeout: failsafe}
		resp, err := client.Get(c.url(path))
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	// The heartbeat commits every few seconds and gets the error.
	if !eventually(failsafe, func() bool { return get("/readyz") == http.StatusServiceUnavailable }) {
		t.Fatal("readyz never failed")
	}
	began := time.Now()
	if status := get("/.well-known/jwks.json"); status != http.StatusOK {
		t.Errorf("JWKS answers %d", status)
	}
	if code := c.wait(failsafe); code <= 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("ended %v after readyz failed", time.Since(began))
	if log := c.errs.String(); strings.Count(log, "the store failed") != 1 || triesAgain(log) {
		t.Errorf("the log says why not once:\n%s", log)
	}
	tracer.Process.Kill()
	again := p.start()
	again.signal(syscall.SIGTERM)
	if code := again.wait(failsafe); code != 0 {
		t.Errorf("after the restart: exit code %d", code)
	}
}
