package diagnose

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
)

// readKey reads the master key. A wrong or missing key is a finding and not an error, because
// the other checks do not need it.
//
// A weak key is no fault if it is to be changed: the store opens with no other one.
func (d *Doctor) readKey() {
	d.master, d.keySource, d.keyFault = MasterKey(d.Config)
	if d.NewMasterKeyFile != "" && config.IsWeakKey(d.keyFault) {
		d.keyFault = nil
	}
}

// MasterKey finds the master key where the server has it: in the settings, or else where the
// unit of systemd has it, and then source says where that was. The error matches ErrNotInUnit
// if there is none.
func MasterKey(c *config.Config) (key keystore.MasterKey, source string, err error) {
	if c.Dev {
		key, err = c.ReadMasterKeyFile(c.Path("dev-master-key"))
		return key, "", err
	}
	if key, err = c.MasterKey(); !errors.Is(err, config.ErrNoMasterKey) {
		return key, "", err
	}
	u, err := readUnit(unitDirs())
	if err == nil {
		key, source, err = u.masterKey(c)
	}
	if errors.Is(err, ErrNotInUnit) {
		err = terminal.WithHint(fmt.Errorf("no master key was given: no setting names one, and %w", err),
			"set KEYMILL_MASTER_KEY_FILE to the file that holds the master key of this store")
	} else if errors.Is(err, fs.ErrPermission) {
		err = terminal.WithHint(err, "run it as root, as systemd reads it")
	}
	return key, source, err
}

// ErrNotInUnit means that neither the settings nor the unit name a master key.
var ErrNotInUnit = errors.New("no unit " + unitName + " names one")

// masterKey reads the master key as the unit gives it to the server, and says where it was.
// The order is that of the server.
func (u *unit) masterKey(c *config.Config) (key keystore.MasterKey, source string, err error) {
	path, hasPath := u.environment["KEYMILL_MASTER_KEY_FILE"]
	text, hasText := u.environment["KEYMILL_MASTER_KEY"]
	loaded, hasCredential := u.credentials[config.MasterKeyCredential]
	switch {
	case hasPath && path != "":
		source = filepath.Join("/", path) // systemd starts a server in /
		key, err = c.ReadMasterKeyFile(source)
	case hasCredential:
		source = loaded.where()
		key, err = loaded.read()
	case hasText && text != "":
		source = "KEYMILL_MASTER_KEY"
		key, err = config.ParseMasterKey(source, []byte(text))
	default:
		return key, "", ErrNotInUnit
	}
	source += ", as " + u.path + " says"
	if err != nil {
		err = fmt.Errorf("%w (%s names it)", err, u.path)
	}
	return key, source, err
}

// A credential is one LoadCredential=, SetCredential= or their Encrypted variants, see
// systemd.exec(5).
type credential struct {
	path      string // "" if the unit holds the value
	encrypted bool
}

func (c credential) where() string {
	if c.path == "" {
		return "the unit itself"
	}
	return c.path
}

// read reads the file that systemd makes the credential of. What only systemd can read is an
// error that says how to get it.
func (c credential) read() (keystore.MasterKey, error) {
	none := keystore.MasterKey{}
	const then = "KEYMILL_MASTER_KEY=\"$(systemd-creds decrypt --name=" + config.MasterKeyCredential + " %s -)\" keymill doctor …"
	switch {
	case c.path == "" && c.encrypted:
		return none, terminal.WithHint(errors.New("the master key is an encrypted credential in the unit"),
			"write the value of SetCredentialEncrypted to FILE, then: %s", fmt.Sprintf(then, "FILE"))
	case c.path == "":
		return none, terminal.WithHint(errors.New("the master key is a credential in the unit (SetCredential)"),
			"give doctor the same value in the variable KEYMILL_MASTER_KEY")
	case c.encrypted:
		return none, terminal.WithHint(fmt.Errorf("the master key is the encrypted credential %s", c.path),
			then, terminal.ShellWord(c.path))
	case strings.Contains(c.path, "%"):
		return none, terminal.WithHint(fmt.Errorf("the path %s of the master key has a specifier that doctor does not know", c.path),
			"set KEYMILL_MASTER_KEY_FILE to that file")
	}
	path := c.path
	if !filepath.IsAbs(path) {
		path = findInStores(path)
	}
	return config.ReadMasterKeyCredential(path)
}

// findInStores returns where systemd finds a credential whose path is relative.
func findInStores(name string) string {
	dirs := []string{"/etc/credstore", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"}
	for _, dir := range dirs {
		if exists(filepath.Join(dir, name)) {
			return filepath.Join(dir, name)
		}
	}
	return filepath.Join(dirs[0], name)
}
