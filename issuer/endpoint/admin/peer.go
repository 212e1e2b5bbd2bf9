package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"keymill/issuer/adminscope"
	"keymill/issuer/endpoint/admin/access"
)

// Keys of the actor and of the holder of a token in a context.
type (
	actorKey  struct{}
	callerKey struct{}
)

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

// WithActor returns a context for requests that this process makes itself. The audit log names by as the
// one who decided.
func WithActor(ctx context.Context, by string) context.Context {
	return context.WithValue(ctx, actorKey{}, by)
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

// WithCaller returns a request of the holder of a token, who gets what its scopes allow.
func WithCaller(r *http.Request, c *access.Caller) *http.Request {
	ctx := context.WithValue(r.Context(), actorKey{}, adminscope.Actor(c.Client))
	return r.WithContext(context.WithValue(ctx, callerKey{}, c))
}

// permit returns the handler of a route, which is served to the socket and to holders of its scope.
func permit(scope Scope, h Handler) Handler {
	return func(r *http.Request) (any, error) {
		if err := CheckPeer(r); err != nil {
			return nil, err
		}
		if c, ok := r.Context().Value(callerKey{}).(*access.Caller); ok {
			if err := c.Check(scope); err != nil {
				return nil, err
			}
		}
		return h(r)
	}
}

// Actor returns the administrator who sent a request, "uid:1000" or "client:deployer"; "" for a request
// that came neither through ConnContext nor through WithCaller.
func Actor(r *http.Request) string {
	by, _ := r.Context().Value(actorKey{}).(string)
	return by
}
