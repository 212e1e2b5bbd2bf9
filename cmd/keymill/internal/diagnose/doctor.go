// Package diagnose checks a data directory or a token and explains what is wrong.
//
// A Doctor checks a data directory: the store, the keys and the chain of audit records. A
// TokenCheck verifies an access token as a service does, and explains the result.
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/outbox"
	"keymill/issuer/verifiers"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/sealed"
)

// A Doctor examines one data directory. It changes nothing there, unless it is told to
// change the master key.
type Doctor struct {
	Config           *config.Config // Data holds a store, see FindStore
	NewMasterKeyFile string         // seal the store under the key in this file; "" keeps the key
	Program          string         // this program, which is run again to check the pages
	Progress         io.Writer      // a terminal that shows how far a long check is; may be nil

	// AskServer asks the server that works on the directory for its status. The error
	// matches fs.ErrNotExist if the server has no socket.
	AskServer func(context.Context) (api.Status, error)

	report    func(percent int) // of the pages; nil, or in place of Progress
	isCopy    bool              // the directory holds a copy that is checked, see ExamineCopy: it has no mark
	store     storage.Store
	records   storage.Store // store without tags, which are checked if the master key opens it
	master    keystore.MasterKey
	keySource string // where the unit has the master key; "" if a setting names it
	keyFault  error  // why there is no master key
	findings  Findings

	serverRuns bool // on this machine, with a shared store
}

// FindStore sets c.Data to the first of dirs that holds a store. It sets c.Dev if --dev
// created that store.
func FindStore(c *config.Config, dirs []string) error {
	if c.IsShared() {
		return c.CheckShared()
	}
	for _, dir := range dirs {
		_, err := os.Stat(filepath.Join(dir, "keymill.db"))
		switch {
		case err == nil:
			c.Data = dir
			c.Dev = config.IsTrial(dir)
			return nil
		case errors.Is(err, fs.ErrPermission):
			return terminal.WithHint(err, "run it as the server's user, or as root")
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return terminal.WithHint(fmt.Errorf("no store in %s", strings.Join(dirs, " or ")), "name the server's directory with --data DIR, or, if its store is in PostgreSQL, its settings with --config FILE")
}

// Examine returns the findings. An error means that the checks could not be run.
func (d *Doctor) Examine(ctx context.Context) (Findings, error) {
	d.findings = Findings{Data: d.Config.StorePlace()}
	err := d.examine(ctx)
	d.findings.OK = len(d.findings.failed()) == 0
	return d.findings, err
}

func (d *Doctor) examine(ctx context.Context) error {
	if d.Config.IsShared() {
		return d.examineShared(ctx)
	}
	dir, err := d.lock()
	var inUse *datadir.InUseError
	if errors.As(err, &inUse) {
		if d.NewMasterKeyFile != "" {
			return terminal.WithHint(err, "stop the server first; it would go on with the old master key")
		}
		return d.askServer(ctx, inUse)
	}
	if err != nil {
		return err
	}
	if dir != nil {
		defer dir.Undo() // and with it the lock file, if there was none
	}
	if d.NewMasterKeyFile != "" && d.Config.Dev {
		return errors.New("the master key of a trial store cannot be changed")
	}
	if err := serve.Harden(); err != nil {
		return err
	}
	d.checkAll(ctx)
	if dir != nil { // else nothing can be written there, and no server can run
		d.checkAccess(ctx)
	}
	return d.changeIfWhole(ctx)
}

// changeIfWhole changes the master key, if that was asked for and all checks have passed.
func (d *Doctor) changeIfWhole(ctx context.Context) error {
	if d.NewMasterKeyFile == "" {
		return nil
	}
	if failed := d.findings.failed(); len(failed) > 0 {
		d.findings.add("new master key", "", terminal.WithHint(
			fmt.Errorf("the master key was not changed, because not every check passed: %s", strings.Join(failed, ", ")),
			"mend what they name, and run doctor again"))
		return nil
	}
	return d.changeMasterKey(ctx)
}

// checkAll makes all checks that can be made, and closes the store.
func (d *Doctor) checkAll(ctx context.Context) {
	if err := datadir.Check(d.Config.Data); !d.findings.check("directory", err) {
		return
	}
	d.checkTLS()
	d.readKey()
	store, err := openstore.OpenReadOnly(ctx, d.Config)
	if !d.findings.add("store", "opens", err) {
		return
	}
	defer store.Close()
	d.store, d.records = store, sealed.Unverified(store)
	d.checkStore(ctx, store)
	d.checkLogins(ctx)
}

// checkLogins checks the clients of the login endpoints.
func (d *Doctor) checkLogins(ctx context.Context) {
	d.findings.warn(serve.LoginWarnings(d.Config, serve.Records{
		Client:   func(id string) (api.Client, error) { return issuer.ReadClient(ctx, d.records, id) },
		Audience: func(name string) (api.Audience, error) { return issuer.ReadAudience(ctx, d.records, name) },
	}))
}

// lock locks the directory. On a file system that is mounted read-only no server can run and no
// lock can be taken, and a copy can be examined there: the result is then nil.
func (d *Doctor) lock() (*datadir.Dir, error) {
	dir, err := datadir.Open(d.Config.Data, false)
	switch {
	case errors.Is(err, syscall.EROFS) && d.NewMasterKeyFile == "":
		return nil, nil
	case errors.Is(err, fs.ErrPermission) && !ownsDirectory(d.Config.Data):
		return nil, terminal.WithHint(err, "run it as the server's user, or as root")
	}
	return dir, err
}

// ownsDirectory reports whether this process runs as the owner of the directory.
func ownsDirectory(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	uid, _ := namedfile.Owner(info)
	return uid == os.Geteuid()
}

func (d *Doctor) checkStore(ctx context.Context, file *openstore.Store) {
	size := file.Status().Bytes
	if !d.findings.add("records", fmt.Sprintf("all pages and records can be read (%s)", sizeText(d.Config.Path("keymill.db"), size)), d.checkPages(ctx, d.Config.Path("keymill.db"), size)) {
		return
	}
	d.findings.check("file", file.CheckUnused(ctx))
	d.findings.check("audiences", serve.CheckAdminAudience(ctx, d.records))
	d.checkContent(ctx)
}

// checkContent checks the records of a store whose pages are whole.
func (d *Doctor) checkContent(ctx context.Context) {
	d.checkMigration(ctx)
	meta, err := serve.Identify(ctx, d.store, d.Config)
	if d.findings.add("identity", fmt.Sprintf("database %s, created %s", meta.DatabaseID, terminal.FormatTime(&meta.Created)), d.explainIdentity(ctx, err)) {
		if !d.isCopy || !d.noKey() {
			d.checkMasterKey(ctx)
		}
	}
	records, err := audit.Verify(ctx, d.records)
	d.findings.add("audit", terminal.Count(records, "record")+", the hash chain is complete", err)
}

// explainIdentity says more about why the store has no identity. With the master key another schema can be told
// from a changed record.
func (d *Doctor) explainIdentity(ctx context.Context, err error) error {
	if schema := new(storage.SchemaError); errors.As(err, &schema) && d.keyFault == nil {
		_, err = keystore.Unlock(ctx, d.store, d.master)
	}
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return errors.New("the store has no record of its identity")
	case errors.Is(err, storage.ErrDamaged):
		return terminal.WithHint(err, "restore a backup")
	}
	return err
}

func (d *Doctor) checkMasterKey(ctx context.Context) {
	if config.IsWeakKey(d.keyFault) {
		d.keyFault = serve.WeakKeyFault(ctx, d.store, d.master, d.keyFault)
	}
	if d.keyFault != nil {
		d.findings.add("master key", "", d.keyFault)
		return
	}
	d.checkKeys(ctx)
}

// checkKeys opens the keys as a server would, and checks all that they open.
func (d *Doctor) checkKeys(ctx context.Context) {
	rings, markErr, err := d.openKeys(ctx)
	opens := "opens the data key and the private keys"
	if d.keySource != "" {
		opens += "; it is from " + d.keySource
	}
	if errors.Is(err, storage.ErrDamaged) {
		err = terminal.WithHint(err, "restore a backup")
	}
	if records, unlockErr := keystore.Unlock(ctx, d.store, d.master); unlockErr == nil {
		d.records = records
		if errors.Is(err, storage.ErrDamaged) { // which is no fault of the key
			d.findings.add("master key", opens, nil)
			d.findings.check("mark", markErr)
			d.findings.add("keys", "", err)
			d.checkRecords(ctx)
			return
		}
	}
	if err != nil && d.keySource != "" {
		err = fmt.Errorf("%w; the key is from %s", err, d.keySource)
	}
	if !d.findings.add("master key", opens, err) {
		d.findings.check("mark", markErr)
		return
	}
	defer rings.Close()
	if !d.isCopy && (markErr != nil || !d.Config.IsShared() || !missing(d.Config.MarkPath())) {
		d.findings.add("mark", "the store is not older than its mark", markErr)
	}
	whole := d.checkRecords(ctx)
	d.checkReferences(ctx, rings.ErasureTime(), !whole)
	d.findings.check("verifiers", openVerifiers(ctx, rings, whole))
	d.findings.check("issuer", serve.CheckIssuer(ctx, rings.Store(), d.Config))
	if !d.isCopy {
		d.checkRevoked(ctx, rings)
	}
	d.checkRings(ctx, rings)
	if err := openIssuer(ctx, d.Config, rings); !errors.Is(err, issuer.ErrAdminAudience) { // else checkStore has named it
		d.findings.add("sessions", "the secrets of refresh tokens and the events of the webhook can be read", err)
	}
}

// openKeys opens the keys on a store that forgets what is written. markErr is what is wrong with the mark.
// It ends no check: before an administrator accepts an older copy, doctor must have found what is damaged in it.
func (d *Doctor) openKeys(ctx context.Context) (rings *keystore.Rings, markErr, err error) {
	c := d.Config
	var mark *sealed.Mark
	if !d.isCopy {
		mark, markErr = sealed.OpenMarkReadOnly(c.MarkPath())
	}
	if markErr != nil {
		mark, markErr = nil, namedfile.Denied(namedfile.Need{Path: c.MarkPath(), Use: namedfile.ToWrite}, markErr)
	} else if mark != nil {
		defer mark.Close()
	}
	cfg := keystore.Config{
		Mark: mark, KeepOldTags: true,
		Algorithms: c.Algorithms, RotateEvery: c.RotateEvery, Propagation: c.Propagation, MaxAge: c.MaxAge,
		Master: d.master, Dev: c.Dev, CheckRSA: jwks.CheckRSA, Changed: func([]keystore.PublicKey) {},
	}
	rings, err = keystore.Open(ctx, storage.DryRun(d.store), cfg)
	if older := new(keystore.OlderStoreError); errors.As(err, &older) {
		markErr = terminal.WithHint(err, "put the newest store back; or start the server: the refusal says how to serve this one")
		cfg.AcceptOlder = older.Token
		rings, err = keystore.Open(ctx, storage.DryRun(d.store), cfg)
	}
	if err == nil && rings.MarkMissing() && !c.IsShared() { // a server makes its own mark at its first start
		markErr = fmt.Errorf("%s is missing; whether this is an older copy of the store cannot be said; the next start makes the mark again", c.MarkPath())
	}
	return rings, markErr, err
}

// checkRevoked compares the list of revoked keys with the store. A kill between a revocation and the write of
// the list leaves one that lacks the key, so that is no fault: the next start writes it, as one that is missing or was
// written before a change of the master key.
func (d *Doctor) checkRevoked(ctx context.Context, rings *keystore.Rings) {
	err := rings.CheckRevoked(ctx, d.Config.RevokedPath())
	if err == nil || errors.Is(err, keystore.ErrNoRevoked) {
		return
	}
	d.findings.add("revoked keys", terminal.OneLine(terminal.Plain(err))+"; start the server before a restore, which would trust that key: a start writes the list", nil)
}

// checkRings checks that the keys sign, now and after a rotation.
func (d *Doctor) checkRings(ctx context.Context, rings *keystore.Rings) {
	var err error
	if status := rings.Status(); !status.Ready {
		err = errors.New(strings.Join(status.Issues, "; "))
	}
	keys, listErr := rings.List(ctx)
	stages := map[keystore.Stage]int{}
	for _, k := range keys {
		stages[k.Stage]++
	}
	d.findings.add("keys", fmt.Sprintf("%d active, %d spare, %d reserve, %d retiring",
		stages["active"], stages["spare"], stages["reserve"], stages["retiring"]),
		errors.Join(err, listErr, rotateAll(ctx, rings, d.Config.Algorithms)))
}

// openIssuer opens what a start opens after the keys, in the same way.
func openIssuer(ctx context.Context, c *config.Config, rings *keystore.Rings) error {
	store := rings.Store()
	events, err := outbox.Open(ctx, outbox.Config{Store: store, Now: rings.Now, WallTime: rings.WallTime})
	if err != nil {
		return err
	}
	url := c.Issuer
	if url == "" {
		url = "https://issuer.invalid" // no record depends on it
	}
	_, err = issuer.Open(ctx, issuer.Config{
		URL: url, Insecure: c.Insecure || c.Dev, Store: store, Keys: rings, Outbox: events,
		Refresh: issuer.Lifetimes{Grace: c.Grace, Idle: c.Idle, Absolute: c.Absolute},
	})
	return err
}

// openVerifiers opens the pinned verifiers as a start does, which tells of what one was served that does not exist. If
// records are damaged, these were named before.
func openVerifiers(ctx context.Context, rings *keystore.Rings, whole bool) error {
	var found []error
	_, err := verifiers.Open(ctx, verifiers.Config{
		Store: rings.Store(), Keys: rings, Damaged: func(err error) { found = append(found, err) },
	})
	if !whole {
		return err
	}
	return errors.Join(append(found, err)...)
}

// rotateAll rotates each ring, in a store that forgets it. So a reserve that cannot be opened
// is found now, and not when it is to be published.
func rotateAll(ctx context.Context, rings *keystore.Rings, algorithms []string) error {
	for _, alg := range algorithms {
		_, err := rings.Rotate(ctx, keystore.RotateRequest{Alg: alg, Force: true}, "doctor")
		var notReady *keystore.NotReadyError // the store was never served for long enough
		var full *keystore.InvalidError      // the published set has no room for another key
		if err != nil && !errors.As(err, &notReady) && !errors.As(err, &full) {
			return fmt.Errorf("the next %s keys: %w", alg, err)
		}
	}
	return nil
}

// changeMasterKey seals the data key under the new master key.
func (d *Doctor) changeMasterKey(ctx context.Context) error {
	next, err := d.Config.ReadMasterKeyFile(d.NewMasterKeyFile)
	if errors.Is(err, config.ErrNotAMasterKey) || config.IsWeakKey(err) {
		return terminal.WithHint(err, "make one: %s", config.MakeMasterKey)
	} else if err != nil {
		return err
	}
	store, err := openstore.Open(ctx, d.Config, openstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	mark, err := d.markToRenew()
	if err != nil {
		return err
	}
	if mark != nil {
		defer mark.Close()
	}
	err = keystore.ChangeMasterKey(ctx, store, keystore.MasterKeyChange{
		Old: d.master, Next: next, By: fmt.Sprintf("uid:%d", os.Getuid()), Mark: mark, Progress: d.showRetag(), Shared: d.Config.IsShared(),
	})
	if d.Progress != nil {
		d.clearProgress()
	}
	text := "the store is sealed under it; the old one no longer opens the store"
	if d.Config.IsShared() {
		text += ". Now give every server a file with the new key alone"
	}
	d.findings.add("new master key", text, err)
	return nil
}

// markToRenew opens the mark that is written with the new data key. A server of a shared store that runs writes its
// mark itself, and there may be none on this machine.
func (d *Doctor) markToRenew() (*sealed.Mark, error) {
	path := d.Config.MarkPath()
	if d.Config.IsShared() && (missing(path) || d.serverRuns) {
		return nil, nil
	}
	return sealed.OpenMark(path)
}

// clearProgress removes a line of progress, which has at most 70 characters.
func (d *Doctor) clearProgress() { fmt.Fprintf(d.Progress, "\r%70s\r", "") }

// showRetag shows how far the end of the last change of the master key is.
func (d *Doctor) showRetag() keystore.Progress {
	if d.Progress == nil {
		return nil
	}
	return func(records int, _ string) {
		fmt.Fprintf(d.Progress, "\rending the last change of the master key: %s", terminal.Count(records, "record"))
	}
}

// askServer asks the server that has the directory.
func (d *Doctor) askServer(ctx context.Context, inUse *datadir.InUseError) error {
	s, err := d.AskServer(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return inUse // a server that starts or stops, or another doctor
	}
	if err != nil {
		return err
	}
	d.findings.add("server", fmt.Sprintf("process %d, version %s, serves %s", inUse.PID, s.Version, s.Issuer), nil)
	if !s.Ready {
		err = errors.New(strings.Join(s.Issues, "; "))
	}
	d.findings.add("ready", "keys sign and spares are published", err)
	d.findings.warn(s.Warnings)
	return nil
}
