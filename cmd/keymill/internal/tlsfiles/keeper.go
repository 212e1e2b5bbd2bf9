package tlsfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// Every is how often a Keeper looks at its files.
const Every = 5 * time.Second

// A Keeper holds the pair that is served.
type Keeper struct {
	log     *slog.Logger
	current atomic.Pointer[Pair] // read by every handshake

	mu     sync.Mutex // guards what follows, and writes of current
	config *config.Config
	seen   [2]identity // the files as they were before they were read last
	fault  string      // why they cannot be used; "" if they are served
	told   string      // the last line about the end of the certificate
}

// Open loads the files that c names. It logs what a client would refuse although the files fit.
func Open(c *config.Config, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{log: log, config: c, seen: identities(c)}
	p, err := Load(c, time.Now())
	if err != nil {
		return nil, err
	}
	k.take(p)
	return k, nil
}

// TLSConfig returns the configuration of the listener: TLS 1.2 at least, with the suites of package tls.
func (k *Keeper) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return k.current.Load().certificate, nil
		},
	}
}

// Certificate returns the certificate that is served.
func (k *Keeper) Certificate() *x509.Certificate { return k.current.Load().leaf }

// Run follows the files until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			k.look()
		}
	}
}

// look reads the files if they have changed, and again each time as long as they cannot be used: a
// certificate can become valid without a change.
func (k *Keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := identities(k.config)
	if now != k.seen || k.fault != "" {
		k.seen = now // before the files are read, so that a change in the meantime is seen next time
		if p, err := Load(k.config, time.Now()); err != nil {
			k.keep(err)
		} else {
			k.take(p)
		}
	}
	k.tellExpiry()
}

// Prepare loads the files that c names. use then serves them; without it nothing has changed.
func (k *Keeper) Prepare(c *config.Config) (use func(), err error) {
	seen := identities(c)
	p, err := Load(c, time.Now())
	if err != nil {
		return nil, err
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.config, k.seen = c, seen
		k.take(p)
		k.tellExpiry()
	}, nil
}

// keep remembers why the files cannot be used, and logs it once.
func (k *Keeper) keep(err error) {
	text := terminal.Plain(err)
	if text == k.fault {
		return
	}
	k.fault = text
	attrs := []any{"error", text}
	if hint := terminal.HintOf(err); hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	k.log.Warn("the TLS files cannot be used; the previous certificate is still served", attrs...)
}

// take serves p. Nothing is logged if p is served already, unless that ends a fault.
func (k *Keeper) take(p *Pair) {
	before, fault := k.current.Swap(p), k.fault
	k.fault = ""
	if before != nil && p.same(before) {
		if fault != "" {
			k.log.Info("the TLS files can be used again", "expires", stamp(p.leaf.NotAfter))
		}
		return
	}
	k.log.Info("serving a TLS certificate", "names", p.names(), "serial", fmt.Sprintf("%x", p.leaf.SerialNumber), "expires", stamp(p.leaf.NotAfter))
	if why := p.unfit(); why != "" {
		k.log.Warn("clients may refuse the TLS certificate", "reason", why)
	}
}

// tellExpiry logs that the end of the certificate is near, once, and that it has come.
func (k *Keeper) tellExpiry() {
	text := k.current.Load().expiry(time.Now())
	if text != "" && text != k.told {
		k.log.Warn("the TLS certificate must be renewed", "reason", text)
	}
	k.told = text
}

// Warnings returns what is wrong with the files and the certificate now. A nil Keeper has none.
func (k *Keeper) Warnings() (list []api.Warning) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.current.Load()
	if k.fault != "" {
		list = append(list, api.Warning{Check: "tls", Detail: k.fault})
	}
	for _, text := range p.Doubts(time.Now()) {
		list = append(list, api.Warning{Check: "tls", Detail: text})
	}
	return list
}

// An identity changes with each change of a file and of its mode, and if a link leads to another file.
type identity struct {
	device, inode     uint64
	size              int64
	modified, changed [2]int64 // mtime and ctime; a chmod changes only the second
	missing           bool
}

func identities(c *config.Config) [2]identity {
	return [2]identity{identify(c.TLSCertFile), identify(c.TLSKeyFile)}
}

func identify(path string) identity {
	info, err := os.Stat(path)
	if err != nil {
		return identity{missing: true}
	}
	s := info.Sys().(*syscall.Stat_t)
	return identity{
		uint64(s.Dev), s.Ino, s.Size,
		[2]int64{int64(s.Mtim.Sec), int64(s.Mtim.Nsec)}, [2]int64{int64(s.Ctim.Sec), int64(s.Ctim.Nsec)}, false,
	}
}
