package main

import (
	"flag"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// collectorPercent is the GOGC of keymill serve with as little alive as the floor has, see package collector.
const collectorPercent = 800

// serveFloor runs the process "bench floor". Its timeouts and sizes are those of keymill serve.
func serveFloor(args []string) error {
	flags := flag.NewFlagSet("floor", flag.ContinueOnError)
	listen, dir, bytes := flags.String("listen", "", ""), flags.String("dir", "", ""), flags.Int("bytes", 0, "")
	useLibcrypto := flags.Bool("libcrypto", false, "sign RS256 with libcrypto")
	clients := map[string]string{} // id → secret
	flags.Func("client", "id:secret", func(pair string) error {
		id, secret, ok := strings.Cut(pair, ":")
		if !ok {
			return fmt.Errorf("client %s has no secret", id)
		}
		clients[id] = secret
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := newFloor("http://"+*listen, clients, *bytes, *dir)
	if err != nil {
		return err
	}
	if *useLibcrypto {
		if f.keys.libcrypto, err = newLibcrypto(f.keys.rsa); err != nil {
			return err
		}
	}
	debug.SetGCPercent(collectorPercent)
	server := &http.Server{
		Addr: *listen, Handler: f, MaxHeaderBytes: 16 << 10, IdleTimeout: 120 * time.Second,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
	}
	return server.ListenAndServe()
}
