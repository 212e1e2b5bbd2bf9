package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"keymill/cmd/keymill/internal/apply"
	"keymill/cmd/keymill/internal/auditlines"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/connections"
	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/systemd"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/tlsfiles"
	"keymill/cmd/keymill/internal/unixsocket"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/endpoint"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/endpoint/metrics"
	"keymill/issuer/endpoint/nodelist"
	"keymill/issuer/epoch"
	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
	"keymill/issuer/verifiers"
	"keymill/issuer/webhook"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/nodes"
	"keymill/storage/sealed"
)

// A server holds what Run opened, in the order of opening.
type server struct {
	config  *config.Config
	version string
	log     *slog.Logger
	queue   *logQueue     // behind log
	level   slog.LevelVar // of log
	master  keystore.MasterKey
	secret  refusal.Secret // signs the webhook's requests

	create          bool // a store that is missing
	acceptNewIssuer bool
	acceptOlder     string // token of an older store
	createdBy       string // for the audit log

	tls       *tlsfiles.Keeper // nil without tls.cert_file
	manager   *systemd.Manager
	notifier  notifier // of manager
	public    net.Listener
	monitor   net.Listener          // of metrics and health; nil without metrics.listen
	metrics   *metrics.Metrics      // nil without metrics.listen
	disk      diskNumbers           // for metrics
	conns     *connections.Listener // of public, while it is served
	remote    net.Listener          // of admin.listen; nil without it
	callers   *connections.Listener // of remote, while it is served
	verify    net.Listener          // of verify.listen; nil without it
	askers    *connections.Listener // of verify, while it is served
	dir       *datadir.Dir
	file      *openstore.Store // the store below the tags
	mark      *sealed.Mark     // of the store
	store     storage.Store    // of rings
	nodes     *nodes.Registry  // of a shared store; nil for a store in a file
	database  string           // id of the store
	keySet    *keyset.KeySet
	rings     *keystore.Rings
	outbox    *outbox.Outbox // nil without webhook.url
	issuer    *issuer.Issuer
	verifiers *verifiers.Registry
	endpoints *endpoint.Server
	files     *apply.Files    // of the setting apply; nil without it. Owned by open, and then by reload
	applying  atomic.Bool     // files; watchLogins waits for the end
	webhook   *webhook.Sender // nil without webhook.url
	admin     net.Listener

	settings   settingsInUse
	damage     damageReport
	watch      watch  // what is wrong and does not end the server
	unverified uint64 // the first records of the audit log, which are verified while the server serves

	auditLines *auditlines.Copy // nil without audit.log

	serving   chan struct{}  // closed when everything is open
	last      *config.Config // of the last reload; nil before the first one. Owned by reload
	recording atomic.Bool    // the start is recorded and the stop is not

	storeFailed chan error // gets one error if the store can no longer tell what is durable
	opened      bool       // open has succeeded, so close keeps what it created
}

// open opens everything in order. After an error, close releases what is open and removes
// a lock, a socket and an empty directory that were created. A store that was created
// stays, and so does the master key that --dev created for it.
func (s *server) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.readFiles, s.openTLS, s.openPublic, s.openMetrics, s.openRemote, s.openVerify, s.openDir, s.openMark, s.openStore, s.createStore, s.identify, s.openNodes, s.openKeys, s.openOutbox, s.openIssuer,
		s.openVerifiers, s.openEndpoints, s.openWebhook, s.watchMetrics, s.seedTrial, s.applyFiles, s.checkLogins, s.checkAudit, s.openAuditLines, s.openAdmin, s.rememberIssuer,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.opened = true
	return nil
}

func (s *server) openTLS(context.Context) (err error) {
	if s.config.UsesTLS() {
		s.tls, err = tlsfiles.Open(s.config, s.log)
	}
	return err
}

func (s *server) openPublic(context.Context) error {
	l, err := s.listen()
	if err != nil {
		return err
	}
	s.public = l
	if s.config.Dev && s.config.Issuer == "" {
		// With --listen 127.0.0.1:0 the port is known only now.
		s.config.Issuer = map[bool]string{false: "http://", true: "https://"}[s.config.TrialTLS] + l.Addr().String()
	}
	return nil
}

func (s *server) openDir(context.Context) error {
	if err := datadir.Check(s.config.Data); err != nil {
		return err
	}
	if err := s.findStore(); err != nil {
		return err
	}
	if err := datadir.CheckOwn(s.config); err != nil {
		return err
	}
	dir, err := datadir.Open(s.config.Data, s.create || s.config.IsShared())
	if err != nil {
		return err
	}
	s.dir = dir
	if err := dir.Protect(s.log); err != nil {
		return err
	}
	if s.config.Dev {
		s.master, err = trialMasterKey(s.config)
	}
	if err == nil && s.config.TrialTLS {
		s.tls, err = trialTLS(s.config, s.log)
	}
	return err
}

// openMark opens the file that remembers the age of the store.
func (s *server) openMark(context.Context) (err error) {
	path := s.config.MarkPath()
	s.mark, err = sealed.OpenMark(path)
	return namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToWrite}, err)
}

func (s *server) openStore(ctx context.Context) (err error) {
	s.storeFailed = make(chan error, 1)
	o := openstore.Options{Failed: func(err error) { s.storeFailed <- err }, Waiting: s.waitForMigration}
	if s.metrics != nil {
		o.Committed = s.metrics.Committed
	}
	s.file, err = openstore.Open(ctx, s.config, o)
	return err
}

func (s *server) openKeys(ctx context.Context) (err error) {
	s.keySet = keyset.New(s.config.MaxAge)
	cfg := s.keyConfig()
	cfg.Changed, cfg.Log, cfg.Mark, cfg.AcceptOlder = s.keySet.Publish, s.log, s.mark, s.acceptOlder
	cfg.Nodes = s.nodes
	cfg.RevokedFile, cfg.Epoch = s.config.RevokedPath(), epoch.Find
	cfg.Accepted = func(tx storage.Tx, decision, wall time.Time) error {
		return epoch.EndAllSessions(tx, decision, wall, 0, s.config.WebhookURL != "")
	}
	cfg.Check, cfg.Progress = s.checkIssuer, logProgress(s.log)
	s.rings, err = keystore.Open(ctx, s.file, cfg)
	var older *keystore.OlderStoreError
	switch {
	case err == nil:
		s.store = s.rings.Store()
		s.damage.log, s.damage.now = s.log, s.rings.Damaged
	case errors.Is(err, keystore.ErrNoRecords):
		err = s.emptyStore()
	case errors.Is(err, storage.ErrDamaged):
		err = terminal.WithHint(err, "restore a backup; keymill doctor lists all damaged records")
	case errors.As(err, &older):
		err = terminal.WithHint(err, "put the newest store back; or, to serve this one and end all sessions, start once with --accept-older-store %s", older.Token)
	}
	return err
}

// logProgress logs how far the end of a change of the master key is, every few seconds.
func logProgress(log *slog.Logger) keystore.Progress {
	next := time.Now().Add(progressEvery)
	return func(records int, key string) {
		if now := time.Now(); now.After(next) {
			log.Info("ending the change of the master key", "records", records, "at", key)
			next = now.Add(progressEvery)
		}
	}
}

const progressEvery = 3 * time.Second

func (s *server) keyConfig() keystore.Config {
	c := s.config
	return keystore.Config{
		Algorithms:  c.Algorithms,
		RSASigner:   c.RSA,
		RotateEvery: c.RotateEvery,
		Propagation: c.Propagation,
		MaxAge:      c.MaxAge,
		Master:      s.master,
		CheckRSA:    jwks.CheckRSA,
		Dev:         c.Dev,
	}
}

func (s *server) openOutbox(ctx context.Context) (err error) {
	if s.config.WebhookURL != "" {
		s.outbox, err = outbox.Open(ctx, outbox.Config{Store: s.store, Now: s.rings.Now, WallTime: s.rings.WallTime, Damaged: s.damage.add})
	}
	return err
}

func (s *server) openIssuer(ctx context.Context) (err error) {
	c := s.config
	if err := CheckAdminAudience(ctx, s.store); err != nil {
		return err
	}
	s.issuer, err = issuer.Open(ctx, issuer.Config{
		URL:      c.Issuer,
		Insecure: c.Insecure,
		Store:    s.store,
		Keys:     s.rings,
		Refresh:  issuer.Lifetimes{Grace: c.Grace, Idle: c.Idle, Absolute: c.Absolute},
		Outbox:   s.outbox,
		Admin:    s.remote != nil,
		Log:      s.log,
		Node:     s.nodes.ID(),
		Hold:     s.lease(cleanUpLease),
		Damaged:  s.damage.add,
	})
	return err
}

func (s *server) openVerifiers(ctx context.Context) (err error) {
	s.verifiers, err = verifiers.Open(ctx, verifiers.Config{
		URL:     s.issuer.URL() + keyset.Path,
		Store:   s.store,
		Keys:    s.rings,
		MaxAge:  s.config.MaxAge,
		Outbox:  s.outbox,
		Log:     s.log,
		Damaged: s.damage.add,
	})
	return err
}

func (s *server) openEndpoints(context.Context) (err error) {
	c := s.config
	s.settings.use(c)
	s.endpoints, err = endpoint.New(endpoint.Config{
		Issuer:         s.issuer,
		Keys:           s.rings,
		KeySet:         s.keySet,
		Verifiers:      s.verifiers,
		Applied:        &applied.Marks{Store: s.store, Now: s.rings.Now, Damaged: s.damage.add},
		SimpleJWT:      endpoint.SimpleJWT{Client: c.SimpleJWTClient, Prefix: c.SimpleJWTPrefix, UsernameField: c.SimpleJWTUsername},
		Browser:        endpoint.Browser{Client: c.BrowserClient},
		TrustedProxies: c.TrustedProxies,
		Advice:         loginAdvice,
		Warnings:       s.warnings,
		Changed:        s.watchLogins,
		TrialHosts:     s.trialHosts(),
		AdminHosts:     s.adminHosts(),
		Metrics:        s.metrics,
		ListNodes:      func(ctx context.Context) (api.Nodes, error) { return nodelist.Read(ctx, s.nodes, s.store) },
		Damaged:        s.damage.addOf,
		Nodes:          s.nodes.Count,
		StoreFailed:    func() error { return s.store.Status().Failed },
		StoreAway:      func() (time.Time, error) { st := s.file.Status(); return st.Since, st.Away },
		CommitSince:    s.file.CommitSince,
		StoreBytes:     s.storeBytes,
		Backup:         s.backup,
		Migrate:        s.migrate,
		Records:        s.migrationRecords,
		Version:        s.version,
		Settings:       s.settings.shown,
		Log:            s.log,
	})
	return err
}

func (s *server) openWebhook(context.Context) (err error) {
	if s.config.WebhookURL != "" {
		s.webhook, err = webhook.New(webhook.Config{
			URL: s.config.WebhookURL, Loopback: jwks.IsLoopback, Secret: s.secret, Outbox: s.outbox, Log: s.log, Hold: s.lease("webhook"),
		})
	}
	return err
}

func (s *server) seedTrial(ctx context.Context) error {
	if !s.config.Dev {
		return nil
	}
	return seed(ctx, s.config, s.issuer)
}

// openAdmin listens on the socket. This process holds the lock, so a socket that exists
// belongs to a process that has ended.
func (s *server) openAdmin(context.Context) error {
	path, inDir := s.config.Path("admin.sock"), namedfile.Need{Path: s.config.Data, Use: namedfile.ToCreate}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return namedfile.Denied(inDir, err)
	}
	// Late, because a start that fails changes no file.
	if err := s.dir.ProtectFiles(s.log); err != nil {
		return err
	}
	l, err := unixsocket.Create(path, 0o600)
	if err != nil {
		return namedfile.Denied(inDir, fmt.Errorf("admin socket: %w", err))
	}
	s.admin = l
	return nil
}
