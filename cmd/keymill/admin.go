package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// An adminClient talks to the running server of one data directory over its admin socket.
type adminClient struct {
	socket string
	http   *http.Client
}

// addDataFlag adds --data to a command that needs the data directory.
func addDataFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().Var(new(dirName), "data", "the server's data directory (or $KEYMILL_DATA; else keymill-data, keymill-dev)")
}

// A dirName is the value of --data. An empty name is refused: it usually comes from
// a variable that is not set, and the command would use a default directory.
type dirName string

func (d *dirName) String() string { return string(*d) }
func (d *dirName) Type() string   { return "string" }

func (d *dirName) Set(text string) error {
	if text == "" {
		return errors.New("the value is empty; is a variable not set?")
	}
	*d = dirName(text)
	return nil
}

// dataDirs returns where to look for the data directory: where the flag or the variable
// says, or else the two defaults.
func dataDirs(cmd *cobra.Command) []string {
	if f := cmd.Flags().Lookup("data"); f != nil && f.Value.String() != "" {
		return []string{f.Value.String()}
	}
	if dir := os.Getenv("KEYMILL_DATA"); dir != "" {
		return []string{dir}
	}
	return []string{"keymill-data", "keymill-dev"}
}

// dial finds the running server of cmd's directory.
func dial(cmd *cobra.Command) (*adminClient, error) {
	dirs := dataDirs(cmd)
	for _, dir := range dirs {
		socket := filepath.Join(dir, "admin.sock")
		conn, err := serve.DialAdmin(cmd.Context(), socket)
		switch {
		case err == nil:
			conn.Close()
			return newAdminClient(socket), nil
		case !errors.As(err, new(*net.OpError)): // another user listens there
			return nil, err
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			return nil, terminal.WithHint(fmt.Errorf("%s: permission denied", socket), "run it as the server's user, or as root")
		case len(socket) > config.MaxSocketPath:
			return nil, fmt.Errorf("the socket path %s is too long (%d bytes; the system allows %d)", socket, len(socket), config.MaxSocketPath)
		}
	}
	if len(dirs) > 1 {
		return nil, terminal.WithHint(fmt.Errorf("no server is running on %s or %s", dirs[0], dirs[1]),
			"start one with \"keymill serve --dev\", or name the data directory of a running server with --data DIR")
	}
	return nil, terminal.WithHint(fmt.Errorf("no server is running on the data directory %s", dirs[0]), "start one with %q", config.ServeCommand(dirs[0]))
}

func newAdminClient(socket string) *adminClient {
	return &adminClient{socket, &http.Client{
		Timeout: 40 * time.Second, // longer than the server's own limits
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return serve.DialAdmin(ctx, socket)
			},
		},
	}}
}

// An apiError is a refusal of the server.
type apiError struct{ api.NotReadyResponse }

func (e *apiError) Error() string {
	if e.Description == "" {
		return e.Code
	}
	return e.Description
}

// maxAnswerBytes bounds one answer; the longest is 1,000 audit records.
const maxAnswerBytes = 16 << 20

// call sends a request, with body as JSON unless it is nil, and returns the answer's JSON.
func (a *adminClient) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	var content io.Reader
	if body != nil {
		raw, err := terminal.MarshalJSON(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://keymill/admin/v1/"+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.connectionError(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, a.connectionError(err)
	}
	if resp.StatusCode < 300 {
		return raw, nil
	}
	refused := &apiError{}
	if json.Unmarshal(raw, refused) != nil || refused.Code == "" {
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	return nil, refused
}

// connectionError explains a connection that ended without an answer.
func (a *adminClient) connectionError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return terminal.WithHint(fmt.Errorf("the server on %s closed the connection without an answer", a.socket),
			"it answers only its own user and root; run this as one of them")
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("request to %s failed: %w", a.socket, err)
}

// ask calls the server and decodes the answer into T. It also returns the raw answer, for
// --json.
func ask[T any](ctx context.Context, a *adminClient, method, path string, body any) (answer T, raw []byte, err error) {
	raw, err = a.call(ctx, method, path, body)
	if err == nil && len(raw) > 0 {
		if err = json.Unmarshal(raw, &answer); err != nil {
			err = fmt.Errorf("cannot read the server's answer: %w", err)
		}
	}
	return answer, raw, err
}

// pageSize is how many entries one request for a list asks for.
const pageSize = 500

// askAll reads a whole list, page by page. name returns what the list is ordered by.
func askAll[T any](ctx context.Context, a *adminClient, path string, name func(T) string) (all []T, raw []byte, err error) {
	whole := []json.RawMessage{}
	after := ""
	for {
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if after != "" {
			query.Set("after", after)
		}
		page, raw, err := ask[[]json.RawMessage](ctx, a, http.MethodGet, path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, raw, err
		}
		for _, entry := range page {
			var v T
			if err := json.Unmarshal(entry, &v); err != nil {
				return nil, nil, fmt.Errorf("cannot read the server's answer: %w", err)
			}
			all, whole = append(all, v), append(whole, entry)
			after = name(v)
		}
		if len(page) < pageSize {
			raw, err = terminal.MarshalJSON(whole)
			return all, raw, err
		}
	}
}

// say prints what a command did, if the answer of the server does not show it.
func say(cmd *cobra.Command, format string, args ...any) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), terminal.OneLine(fmt.Sprintf(format, args...)))
	return err
}

// sayOrJSON is say, or prints done with --json: the server answers to some changes with nothing.
func sayOrJSON(cmd *cobra.Command, asJSON bool, done map[string]any, format string, args ...any) error {
	if !asJSON {
		return say(cmd, format, args...)
	}
	raw, err := terminal.MarshalJSON(done)
	return printAnswer(cmd, raw, err)
}
