// Package healthcheck asks a running server whether it is ready, for images without curl. The address comes from
// the server's own settings, so the check needs no argument of its own where the server has them too.
package healthcheck

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/origin"
)

// A Check says which server is asked, and what.
type Check struct {
	File   string // the server's configuration, or ""
	Listen string // its address; "" means that of the configuration
	URL    string // its URL; "" means the one of its address
	Data   string // its data directory: it is asked over its admin socket; "" means over HTTP

	Live    bool // ask whether it answers, not whether it is ready
	Timeout time.Duration
}

// Run returns what a healthy server is, in a word or two. Every other outcome is an error that says why.
func (c *Check) Run(ctx context.Context) (string, error) {
	if c.Timeout <= 0 {
		return "", terminal.Usage("--timeout must be more than 0s")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if c.Data != "" {
		return c.overSocket(ctx)
	}
	at, err := c.find()
	if err != nil {
		return "", err
	}
	return c.overHTTP(ctx, at)
}

// overSocket asks the admin API, which says why a server is not ready.
func (c *Check) overSocket(ctx context.Context) (string, error) {
	server, err := adminapi.Dial(ctx, []string{c.Data})
	var status api.Status
	if err == nil {
		status, _, err = adminapi.Ask[api.Status](ctx, server, http.MethodGet, "status", nil)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "", c.late("the server of " + c.Data)
	case err != nil:
		return "", terminal.WithHint(fmt.Errorf("not reachable: %s", terminal.Plain(err)), "%s", terminal.HintOf(err))
	case c.Live:
		return "alive", nil
	case !status.Ready:
		return "", fmt.Errorf("not ready: %s", strings.Join(status.Issues, "; "))
	}
	return "ready", nil
}

// A place is where a server is asked over HTTP.
type place struct {
	url   string // in front of /readyz
	name  string // of the server in TLS; "" means that of url
	local bool   // an address of this machine, from the server's settings
}

func (c *Check) find() (place, error) {
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || !isBase(u.EscapedPath()) || u.RawQuery != "" {
			return place{}, terminal.WithHint(terminal.Usage("--url %q is not a URL like https://id.example.com", terminal.WithoutUser(c.URL)),
				"give the issuer: scheme, host, port, and its path if it has one; /readyz is added to it")
		}
		return place{url: u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/")}, nil
	}
	flags := map[string]string{}
	if c.Listen != "" {
		flags["listen"] = c.Listen
	}
	settings, err := config.Load(c.File, flags, false)
	if err != nil {
		return place{}, err
	}
	address, err := dialled(settings)
	if err != nil {
		return place{}, err
	}
	at := place{url: "http://" + address, local: true}
	if settings.UsesTLS() {
		at.url = "https://" + address
	}
	if u, err := url.Parse(settings.Issuer); err == nil {
		at.name = u.Hostname()
	}
	return at, nil
}

// isBase reports whether path can be that of an issuer, perhaps with a slash at its end.
func isBase(path string) bool {
	path = strings.TrimRight(path, "/")
	return path == "" || origin.CheckPath(path) == nil && !strings.HasSuffix(path, "/readyz") && !strings.HasSuffix(path, "/healthz")
}

// dialled returns the address that reaches a server that listens on this machine: loopback, if it listens on
// every address.
func dialled(settings *config.Config) (string, error) {
	host, port, err := net.SplitHostPort(settings.Listen)
	if err != nil {
		return "", settings.SettingError("listen", "%q is not an address like 127.0.0.1:8420", settings.Listen)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", settings.SettingError("listen", "%q is not a port: write it as a number, like 127.0.0.1:8420", port)
	}
	if n == 0 {
		return "", terminal.WithHint(settings.SettingError("listen", "the port of %q is not fixed, so only the server knows it", settings.Listen),
			"ask over the admin socket: keymill healthcheck --data DIR")
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// overHTTP asks the public listener. It follows no redirect and uses no proxy, because another server would answer.
func (c *Check) overHTTP(ctx context.Context, at place) (string, error) {
	path, healthy := "/readyz", "ready"
	if c.Live {
		path, healthy = "/healthz", "alive"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.url+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client(at).Do(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "", c.late(at.url + path)
	case err != nil:
		return "", unreachable(at.url+path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBodyBytes)) // within the timeout
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "", c.late(at.url + path)
	case err != nil:
		return "", fmt.Errorf("not healthy: the answer of %s ended early: %s", at.url+path, terminal.Plain(err))
	case resp.StatusCode == http.StatusOK:
		return healthy, nil
	case resp.StatusCode == http.StatusServiceUnavailable && !c.Live:
		return "", terminal.WithHint(fmt.Errorf("not ready: %s answered 503", at.url+path), "keymill doctor says why, and so does keymill healthcheck --data DIR")
	case WantsTLS(bytes.NewReader(body)):
		return "", terminal.WithHint(fmt.Errorf("not healthy: %s speaks TLS", at.url), "give the check the server's settings, with tls.cert_file and tls.key_file")
	}
	return "", fmt.Errorf("not healthy: %s answered %s", at.url+path, resp.Status)
}

func (c *Check) late(what string) error {
	return fmt.Errorf("not healthy: %s gave no answer within %s", what, c.Timeout)
}

const maxBodyBytes = 1 << 10

// WantsTLS reports whether body is the answer of a Go server, such as Keymill, that speaks TLS and was asked over
// plain http.
func WantsTLS(body io.Reader) bool {
	text, err := io.ReadAll(io.LimitReader(body, maxBodyBytes))
	return err == nil && strings.Contains(string(text), "HTTP request to an HTTPS server")
}

// TLSHint says what to do about a connection whose TLS failed, and otherwise returns the other hint.
func TLSHint(err error, otherwise string) string {
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "for a certificate authority of your own, set SSL_CERT_FILE to the file of its certificate"
	case errors.As(err, new(x509.HostnameError)):
		return "use a name that the certificate has as subjectAltName"
	case errors.As(err, new(tls.RecordHeaderError)), errors.Is(err, http.ErrSchemeMismatch):
		return "the server speaks plain http there"
	}
	return otherwise
}

func unreachable(target string, err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	hint := TLSHint(err, "is the server running, and is this its address? Give the check the server's --config, --listen or --data")
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		hint += "; or ask over the admin socket: keymill healthcheck --data DIR"
	}
	return terminal.WithHint(fmt.Errorf("not reachable: %s: %s", target, terminal.Plain(err)), "%s", hint)
}

func client(at place) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{ServerName: at.name, MinVersion: tls.VersionTLS12}}
	if at.local {
		// The address is one of this machine, and the certificate is for the host of the issuer, whose
		// authority an image need not know. No secret is sent, and the answer is only a status.
		transport.TLSClientConfig.InsecureSkipVerify = true
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
