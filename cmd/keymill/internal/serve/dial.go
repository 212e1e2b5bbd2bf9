package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/endpoint/admin"
)

// DialAdmin connects to the admin socket of a server, which is in the server's data directory. Other
// users may write in that directory, and could put a socket of their own there. So DialAdmin asks the
// kernel who listens (SO_PEERCRED, unix(7)), and refuses a listener that is not the server.
func DialAdmin(ctx context.Context, socket string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := checkListener(conn, socket); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func checkListener(conn net.Conn, socket string) error {
	listener, err := admin.PeerUID(conn)
	if err != nil {
		return fmt.Errorf("cannot tell who listens on %s: %w", socket, err)
	}
	store := filepath.Join(filepath.Dir(socket), "keymill.db")
	if _, err := os.Lstat(store); errors.Is(err, fs.ErrNotExist) {
		store = filepath.Join(filepath.Dir(socket), "lock") // of a server whose store is a database
	}
	owner := -1 // no user, if there is neither
	if info, err := os.Stat(store); err == nil {
		owner, _ = namedfile.Owner(info)
	}
	if isServer(int(listener), owner, os.Geteuid()) {
		return nil
	}
	whose := "is missing"
	if owner >= 0 {
		whose = fmt.Sprintf("belongs to uid %d", owner)
	}
	return terminal.WithHint(fmt.Errorf("uid %d listens on %s and is not the server: %s %s, and this command runs as uid %d", listener, socket, store, whose, os.Geteuid()),
		"see who replaced files there: ls -ln %s; then restart the server", terminal.ShellWord(filepath.Dir(socket)))
}

// isServer decides whether the user listener is the server: root, or the owner of the store. A user who
// could replace the socket could replace the store as well. So only root, who may be an administrator of
// any server, relies on the owner of the store; another user's server is that user or root.
func isServer(listener, owner, us int) bool {
	return listener == 0 || listener == owner && (us == 0 || us == listener)
}
