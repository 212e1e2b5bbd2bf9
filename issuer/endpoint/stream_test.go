package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/issuer/endpoint/admin"
	"keymill/issuer/refusal"
)

// withBackup returns a world whose backups fn writes.
func withBackup(t *testing.T, fn func(ctx context.Context, w io.Writer) error) *world {
	return newWorldAt(t, testIssuer, func(c *Config) {
		c.Backup = func(ctx context.Context, w io.Writer, by string) error {
			if !strings.HasPrefix(by, "uid:") {
				t.Errorf("by %q", by)
			}
			return fn(ctx, w)
		}
	})
}

// TestAStreamIsWholeOrLooksBroken: an error before the first byte is an answer like any other, and one
// after it ends the connection before the end of the body.
func TestAStreamIsWholeOrLooksBroken(t *testing.T) {
	part := strings.Repeat("x", 100_000)
	for name, tt := range map[string]struct {
		parts  int
		err    error
		status int
		broken bool
	}{
		"whole":                   {5, nil, 200, false},
		"refused":                 {0, refusal.New("in_use", "another backup is being made"), 409, false},
		"a fault at the begin":    {0, errors.New("disk full"), 500, false},
		"a fault in the middle":   {5, errors.New("disk full"), 200, true},
		"a refusal in the middle": {1, refusal.New("in_use", "another"), 200, true},
	} {
		w := withBackup(t, func(_ context.Context, out io.Writer) error {
			for range tt.parts {
				if _, err := io.WriteString(out, part); err != nil {
					return err
				}
			}
			return tt.err
		})
		resp, err := w.admin.Post("http://admin/admin/v1/backup", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || (err != nil) != tt.broken {
			t.Errorf("%s: %d, %v", name, resp.StatusCode, err)
		}
		if tt.parts > 0 && !tt.broken && (string(body) != strings.Repeat(part, tt.parts) || resp.Header.Get("Content-Type") != "application/octet-stream") {
			t.Errorf("%s: %d bytes of %s", name, len(body), resp.Header.Get("Content-Type"))
		}
		if logged := strings.Contains(w.log.String(), "disk full"); logged != (tt.err != nil && tt.err.Error() == "disk full") {
			t.Errorf("%s: the log is %s", name, w.log)
		}
	}
}

// TestAStreamMayTakeLongerThanOtherAnswers: the limits of the server for a request and its answer do not
// end it.
func TestAStreamMayTakeLongerThanOtherAnswers(t *testing.T) {
	const limit = 200 * time.Millisecond
	w := withBackup(t, func(ctx context.Context, out io.Writer) error {
		for range 6 {
			if _, err := io.WriteString(out, strings.Repeat("x", 10_000)); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(limit):
			}
		}
		return nil
	})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: w.server.Admin(), ConnContext: admin.ConnContext, ReadTimeout: limit, WriteTimeout: limit}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Post("http://admin/admin/v1/backup", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 60_000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}
