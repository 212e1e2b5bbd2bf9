package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
	"keymill/issuer/api"
)

// endedAtTheLimit is in the log if the time of requests in flight has passed and a connection is left.
const endedAtTheLimit = "ending connections whose requests took longer"

// TestAStopAnswersEachRequestThatItServes: clients send token requests on connections that stay open, over plain http,
// over TLS and over HTTP/2, and SIGTERM comes in their midst. With HTTP/1.1 the log has as many tokens as the clients have
// read: a request without an answer was not served, so it can be sent again. Every answer is complete, and a
// connection that is open and idle, or has sent nothing, does not delay the end.
//
// I18.
func TestAStopAnswersEachRequestThatItServes(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"plain", "TLS", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			env, scheme := p.env(), "http://"
			newClient := func() *http.Client { return &http.Client{Transport: &http.Transport{}, Timeout: failsafe} }
			if proto != "plain" {
				cert := p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{})
				env, scheme = p.tlsEnv(), "https://"
				newClient = func() *http.Client { return trusting(proto == "TLS", cert) }
			}
			c := p.startWith(append(env, "KEYMILL_LOG_LEVEL=debug"), p.serveArgs()...)
			p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
			var billing api.Client
			p.must(&billing, "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--json")
			var read, ended atomic.Int64
			var clients sync.WaitGroup
			shared := newClient() // with HTTP/2 all requests are on one connection
			for range 12 {
				client := shared
				if proto != "HTTP/2" {
					client = newClient()
				}
				clients.Go(func() {
					defer client.CloseIdleConnections()
					for {
						switch err := tokenOnce(client, scheme+c.address, billing); {
						case err == nil:
							read.Add(1)
						case isClosedConnection(err) || errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "http2: "):
							ended.Add(1)
							return
						default:
							t.Error(err)
							return
						}
					}
				})
			}
			idle, fresh := newClient(), dialTo(t, c.address)
			if resp, err := idle.Get(scheme + c.address + "/healthz"); err != nil {
				t.Error(err)
			} else {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if !eventually(failsafe, func() bool { return read.Load() > 100 }) {
				t.Fatalf("%d tokens", read.Load())
			}
			c.signal(syscall.SIGTERM)
			if code := c.wait(failsafe); code != 0 {
				t.Errorf("exit code %d", code)
			}
			clients.Wait()
			if _, err := fresh.Read(make([]byte, 1)); err == nil || ended.Load() != 12 {
				t.Errorf("%v; %d clients ended by the end of their connection", err, ended.Load())
			}
			log := c.errs.String()
			if strings.Contains(log, endedAtTheLimit) {
				t.Error("the stop waited for a connection without a request")
			}
			if issued := int64(strings.Count(log, `msg="token issued"`)); proto != "HTTP/2" && issued != read.Load() {
				t.Errorf("%d tokens were issued and %d read", issued, read.Load())
			}
		})
	}
}

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// tokenOnce asks for a token. An answer that is not a complete 200 is an error that names it.
func tokenOnce(client *http.Client, base string, c api.Client) error {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ID}, "client_secret": {string(c.Secret)}}
	resp, err := client.PostForm(base+"/token", form)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"access_token"`) {
		return fmt.Errorf("a broken answer: %d %s, %v", resp.StatusCode, body, err)
	}
	return nil
}

// TestAnIdleClientDoesNotDelayAStop: the time that requests in flight have does not pass.
func TestAnIdleClientDoesNotDelayAStop(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cert := p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{})
	c := p.startWith(p.tlsEnv(), p.serveArgs()...)
	for _, only11 := range []bool{false, true} {
		client := trusting(only11, cert)
		resp, err := client.Get("https://" + c.address + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	silent := dialTo(t, c.address)
	half := dialTo(t, c.address)
	io.WriteString(tls.Client(half, &tls.Config{InsecureSkipVerify: true}), "GET / HT")
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(c.errs.String(), endedAtTheLimit) {
		t.Error("the stop waited for a client without a request")
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is still open")
	}
}

// TestAConnectionWithoutARequestEndsBeforeARequestInFlight: neither waits for the other.
func TestAConnectionWithoutARequestEndsBeforeARequestInFlight(t *testing.T) {
	t.Parallel()
	c := newPlace(t).start()
	finish := slowRequest(t, c)
	idle := hold(t, c.address, 1)[0]
	silent := dialTo(t, c.address) // at the last instant, because net/http closes it after five seconds
	c.signal(syscall.SIGTERM)
	for _, conn := range []net.Conn{silent, idle} {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a connection without a request got an answer")
		}
	}
	if answer := finish(); !strings.HasPrefix(answer, "401 ") && !strings.HasPrefix(answer, "400 ") {
		t.Errorf("the answer: %s", answer)
	}
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
