package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"
)

// actorKey is the key of the actor in a context.
type actorKey struct{}

// ConnContext is the ConnContext of the http.Server of the admin socket. It asks the kernel
// for the user at the other end (SO_PEERCRED, unix(7)) and puts it into the context as the
// actor for the audit log, "uid:1000". It closes the connection of any user other than the
// server's own and root. This does not depend on the permissions of the socket or its
// directory.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	uid, err := PeerUID(c)
	if err != nil || (uid != 0 && int(uid) != os.Getuid()) {
		c.Close()
		return ctx
	}
	return context.WithValue(ctx, actorKey{}, fmt.Sprintf("uid:%d", uid))
}

// PeerUID returns the user at the other end of a Unix socket: the one who connected or, asked by a
// client, the one who listens.
func PeerUID(c net.Conn) (uint32, error) {
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

// CheckPeer closes the connection of a request without an actor: its http.Server does not
// have ConnContext.
func CheckPeer(r *http.Request) error {
	if Actor(r) == "" {
		panic(http.ErrAbortHandler)
	}
	return nil
}

// Actor returns the administrator who sent a request, "uid:1000"; "" for a request that did
// not come through ConnContext.
func Actor(r *http.Request) string {
	by, _ := r.Context().Value(actorKey{}).(string)
	return by
}
