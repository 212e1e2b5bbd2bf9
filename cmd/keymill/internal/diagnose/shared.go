package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/moved"
	"keymill/storage/sealed"
)

// examineShared checks a store in a database, which servers may use at the same time, and the directory of the
// server on this machine, if there is one.
func (d *Doctor) examineShared(ctx context.Context) error {
	if err := serve.Harden(); err != nil {
		return err
	}
	d.askLocalServer(ctx)
	if !missing(d.Config.Data) && !d.findings.check("directory", datadir.Check(d.Config.Data)) {
		return nil
	}
	d.checkTLS()
	d.readKey()
	d.findStorePassword()
	store, err := openstore.OpenReadOnly(ctx, d.Config)
	if !d.findings.add("store", "opens: the database is durable, its locks lock, and the role has its rights", err) {
		return nil
	}
	defer store.Close()
	d.store, d.records = store, sealed.Unverified(store)
	d.checkDatabase(ctx, store)
	size, err := store.Size(ctx)
	d.findings.add("size", terminal.Size(size), err)
	d.findings.check("audiences", serve.CheckAdminAudience(ctx, d.records))
	d.checkContent(ctx)
	d.checkNodes(ctx)
	d.checkLogins(ctx)
	if !missing(d.Config.Data) {
		d.checkAccess(ctx)
	}
	return d.changeIfWhole(ctx)
}

// askLocalServer asks the server on this machine, if one runs in the directory.
func (d *Doctor) askLocalServer(ctx context.Context) {
	s, err := d.AskServer(ctx)
	d.serverRuns = !errors.Is(err, fs.ErrNotExist) // or has ended without removing its socket
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		d.findings.skip("server", "the one in "+d.Config.Data+" does not answer: "+terminal.OneLine(terminal.Plain(err)))
	case !s.Ready:
		d.findings.add("server", "", errors.New("the one in "+d.Config.Data+" is not ready: "+strings.Join(s.Issues, "; ")))
	default:
		d.findings.add("server", fmt.Sprintf("the one in %s is ready, version %s, serves %s", d.Config.Data, s.Version, s.Issuer), nil)
	}
}

// findStorePassword looks in the unit of systemd for the password of the store, if no setting says where it is.
func (d *Doctor) findStorePassword() {
	if d.Config.HasStorePassword() {
		return
	}
	u, err := readUnit(unitDirs())
	if err != nil {
		return // the server may need none
	}
	loaded := u.credentials[config.StorePasswordCredential]
	switch path := u.environment["KEYMILL_STORE_PASSWORD_FILE"]; {
	case path != "":
		d.Config.StorePasswordFile = filepath.Join("/", path)
	case loaded.path != "" && !loaded.encrypted && filepath.IsAbs(loaded.path):
		d.Config.StorePasswordFile = loaded.path
	case loaded.path != "" && !loaded.encrypted:
		d.Config.StorePasswordFile = findInStores(loaded.path)
	}
}

// maxAhead is by how much clocks of servers may differ before doctor says so. Servers themselves tolerate more.
const maxAhead = 10 * time.Second

// checkNodes says which servers use the store now, and whether their clocks agree with that of this machine.
func (d *Doctor) checkNodes(ctx context.Context) {
	if m, err := moved.Of(ctx, d.store); err == nil && m != nil {
		d.findings.skip("servers", "those that still run cannot say so in a store that is being moved or was moved")
		return
	}
	live, err := openstore.Live(ctx, d.records)
	var names, wrong []string
	for _, n := range live {
		names = append(names, fmt.Sprintf("%s on %s, version %s", n.ID, terminal.Printable(n.Host), terminal.Printable(n.Version)))
		if n.Ahead.Abs() > maxAhead {
			wrong = append(wrong, fmt.Sprintf("the clock of %s differs by %v from that of this machine", n.ID, n.Ahead.Round(time.Second)))
		}
	}
	if err == nil && len(wrong) > 0 {
		err = terminal.WithHint(errors.New(strings.Join(wrong, "; ")), "synchronize the clocks with NTP")
	}
	text := "no server uses the store now"
	if len(live) > 0 {
		text = fmt.Sprintf("%s live: %s", terminal.Count(len(live), "server"), strings.Join(names, "; "))
	}
	d.findings.add("servers", text, err)
}
