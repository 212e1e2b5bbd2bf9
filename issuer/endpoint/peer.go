package endpoint

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// actorKey carries who is at the other end of an admin connection.
type actorKey struct{}

// AdminConnContext goes into the http.Server of the admin socket as its ConnContext. It
// asks the kernel for the peer (SO_PEERCRED): "uid:1000" is what the audit log shows.
// A peer that is neither the server's own user nor root is hung up on, whatever the
// modes of the socket's directory have become.
func AdminConnContext(ctx context.Context, c net.Conn) context.Context {
	uid, err := peerUID(c)
	if err != nil || (uid != 0 && int(uid) != os.Getuid()) {
		c.Close()
		return ctx
	}
	return context.WithValue(ctx, actorKey{}, fmt.Sprintf("uid:%d", uid))
}

func peerUID(c net.Conn) (uint32, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("no peer credentials on a %T", c)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var peerErr error
	err = raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return 0, err
	}
	if peerErr != nil {
		return 0, peerErr
	}
	return peer.Uid, nil
}

// admitPeer hangs up on whom AdminConnContext has not seen.
func admitPeer(r *http.Request) error {
	if actor(r) == "" {
		panic(http.ErrAbortHandler)
	}
	return nil
}

func actor(r *http.Request) string {
	by, _ := r.Context().Value(actorKey{}).(string)
	return by
}
