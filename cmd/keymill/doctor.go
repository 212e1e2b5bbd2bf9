package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

func doctorCommand() *cobra.Command {
	var file, newKey string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the store, the keys and the audit chain",
		Long: `Check a data directory: every page and record of the store, whether the master key opens
it, whether the keys can be used, and the chain of audit records. Nothing is changed. If a
server runs on the directory, it is asked how it is instead.

With --new-master-key-file, and only if all is well, the store is sealed under another
master key: one record is written anew, in one transaction. Stop the server first; afterwards
only the new key opens the store.`,
		Example: `  keymill doctor --data /var/lib/keymill --config /etc/keymill.yaml
  KEYMILL_MASTER_KEY_FILE=master.key keymill doctor --data /var/lib/keymill --new-master-key-file new.key`,
		Args: arguments(),
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", os.Getenv("KEYMILL_CONFIG"), "the server's YAML file (or $KEYMILL_CONFIG)")
	f.StringVar(&newKey, "new-master-key-file", "", "seal the store under the key in this file")
	addDataFlag(cmd)
	addJSONFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := doctorConfig(cmd, file)
		if err != nil {
			return err
		}
		d := &doctor{config: c, newKey: newKey, findings: findings{Data: c.Data}}
		if err := d.examine(cmd); err != nil {
			return err
		}
		return d.findings.print(cmd.OutOrStdout(), asJSON)
	}
	return cmd
}

// doctorConfig finds the directory: the configured one, or the default that holds a store.
func doctorConfig(cmd *cobra.Command, file string) (*config, error) {
	c, err := loadConfig(file, givenFlags(cmd, "data"), false)
	if err != nil {
		return nil, err
	}
	if err := c.checkKeys(); err != nil {
		return nil, err
	}
	dirs := []string{c.Data}
	if c.origin["data"] == "" {
		dirs = dataDirs(cmd)
	}
	for _, dir := range dirs {
		_, err := os.Stat(filepath.Join(dir, "keymill.db"))
		switch {
		case err == nil:
			c.Data = dir
			// A trial store keeps its key beside it.
			_, err := os.Stat(c.path("dev-master-key"))
			c.dev = err == nil
			return c, nil
		case errors.Is(err, fs.ErrPermission):
			return nil, hint(err, "type it as the server's user, or as root")
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return nil, hint(fmt.Errorf("no store in %s", strings.Join(dirs, " or ")), "name the server's directory with --data DIR")
}

// findings is what doctor prints.
type findings struct {
	Data   string    `json:"data"`
	OK     bool      `json:"ok"`
	Checks []finding `json:"checks"`
}

type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// add records one check; it reports whether all was well.
func (f *findings) add(check, detail string, err error) bool {
	if err != nil {
		detail = oneLine(err.Error())
	}
	f.Checks = append(f.Checks, finding{check, err == nil, detail})
	return err == nil
}

func (f *findings) well() bool {
	for _, c := range f.Checks {
		if !c.OK {
			return false
		}
	}
	return true
}

func (f *findings) print(w io.Writer, asJSON bool) error {
	f.OK = f.well()
	if asJSON {
		raw, err := marshalJSON(f)
		if err != nil {
			return err
		}
		if err := printJSON(w, raw); err != nil {
			return err
		}
	} else {
		t := newTable(w)
		for _, c := range f.Checks {
			word := "ok"
			if !c.OK {
				word = "WRONG"
			}
			t.row(word, c.Check, c.Detail)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if !f.OK {
		return errSaid
	}
	return nil
}

type doctor struct {
	config   *config
	newKey   string // file, "" if the key stays
	store    *bolt.Store
	master   keystore.MasterKey
	findings findings
}

// examine fills the findings. Its error means that it could not even look.
func (d *doctor) examine(cmd *cobra.Command) error {
	dir, err := openDataDir(d.config.Data)
	var used *inUseError
	if errors.As(err, &used) {
		if d.newKey != "" {
			return hint(err, "stop the server first; it would go on with the old master key")
		}
		return d.askServer(cmd.Context(), used)
	}
	if err != nil {
		return err
	}
	defer dir.abandon() // with the lock file, if there was none
	if d.newKey != "" && d.config.dev {
		return errors.New("a store of --dev keeps its own master key beside it; there is nothing to change")
	}
	if err := d.readKey(); err != nil {
		return err
	}
	store, err := bolt.Open(d.config.path("keymill.db"), bolt.Options{})
	if !d.findings.add("store", "opens", err) {
		return nil
	}
	defer store.Close()
	d.store = store
	d.checkAll(cmd.Context())
	if d.newKey != "" && d.findings.well() {
		return d.changeKey(cmd.Context())
	}
	return nil
}

func (d *doctor) readKey() (err error) {
	if d.config.dev {
		d.master, err = masterKeyFile(d.config.path("dev-master-key"))
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	d.master, err = readMasterKey(d.config)
	return err
}

func (d *doctor) checkAll(ctx context.Context) {
	if !d.findings.add("records", fmt.Sprintf("every page and record of %d bytes is whole", d.store.Status().Bytes), d.store.Check(ctx)) {
		return
	}
	var meta storage.Meta
	err := d.store.View(ctx, func(r storage.Reader) (err error) {
		meta, err = storage.ReadMeta(r)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = errors.New("the store does not say which database it is")
	}
	if d.findings.add("identity", fmt.Sprintf("database %s, made %s", meta.DatabaseID, instant(&meta.Created)), err) {
		d.checkKeys(ctx, meta.Dev)
	}
	records, err := audit.Verify(ctx, d.store)
	d.findings.add("audit", fmt.Sprintf("%d records, each with its predecessor's hash", records), err)
}

// checkKeys opens the keys as a server would, on a store that forgets what is written.
func (d *doctor) checkKeys(ctx context.Context, dev bool) {
	c := d.config
	rings, err := keystore.Open(ctx, storage.DryRun(d.store), keystore.Config{
		Algorithms: c.Algorithms, RotateEvery: c.RotateEvery, Propagation: c.Propagation, MaxAge: c.MaxAge,
		Master: d.master, Dev: dev, Changed: func([]keystore.PublicKey) {},
	})
	if !d.findings.add("master key", "opens the keyring and the private keys", err) {
		return
	}
	defer rings.Close()
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
		errors.Join(err, listErr, rotateAll(ctx, rings, c.Algorithms)))
}

// rotateAll rotates each ring of a dry run, so a reserve that cannot be opened is found
// today, and not on the day of its publication.
func rotateAll(ctx context.Context, rings *keystore.Rings, algorithms []string) error {
	for _, alg := range algorithms {
		_, err := rings.Rotate(ctx, alg, true, "doctor")
		var young *keystore.NotReadyError // the store was never served for long enough
		if err != nil && !errors.As(err, &young) {
			return fmt.Errorf("the next %s keys: %w", alg, err)
		}
	}
	return nil
}

// changeKey seals the keyring under the new master key and proves that it opens.
func (d *doctor) changeKey(ctx context.Context) error {
	next, err := masterKeyFile(d.newKey)
	if err != nil {
		return err
	}
	err = keystore.ChangeMasterKey(ctx, d.store, d.master, next, fmt.Sprintf("uid:%d", os.Getuid()))
	if !d.findings.add("new master key", "the store is sealed under it; the old one opens nothing now", err) {
		return nil
	}
	return nil
}

// askServer asks the server that holds the directory.
func (d *doctor) askServer(ctx context.Context, used *inUseError) error {
	server := newAdminClient(d.config.path("admin.sock"))
	type status struct {
		Version string    `json:"version"`
		Issuer  string    `json:"issuer"`
		Ready   bool      `json:"ready"`
		Issues  []string  `json:"issues"`
		Now     time.Time `json:"now"`
	}
	s, _, err := ask[status](ctx, server, http.MethodGet, "status", nil)
	if errors.Is(err, fs.ErrNotExist) {
		return used // it starts or stops just now, or is another doctor
	}
	if err != nil {
		return err
	}
	d.findings.add("server", fmt.Sprintf("process %d, version %s, serves %s", used.pid, s.Version, s.Issuer), nil)
	if !s.Ready {
		err = errors.New(strings.Join(s.Issues, "; "))
	}
	d.findings.add("ready", "keys sign and spares are published", err)
	return nil
}
