package diagnose

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// write writes files below a new directory and returns it. "{dir}" in a text is that directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "{dir}", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	goodKey  = "9d2f6b18e04c7735a1c95be8027f3dd64ab810e37c5962f4d80b91ae563fc27d"
	wrongKey = "51e8a73c0fd2964bb7306ec81d95fa24c3706b1892ed4f5508ac7be1d3469f0a"
)

// TestTheUnitsMasterKeyIsFound wherever the unit can have it, as systemd reads unit files.
func TestTheUnitsMasterKeyIsFound(t *testing.T) {
	const service = "[Unit]\nLoadCredential=keymill-master-key:/unit\n[Service]\n"
	for name, files := range map[string]map[string]string{
		"a credential":        {"etc/keymill.service": service + "LoadCredential=keymill-master-key:{dir}/good\n"},
		"spaces and comments": {"etc/keymill.service": service + "# LoadCredential=\n LoadCredential = keymill-master-key:{dir}/good \n; x\n"},
		"a continued line":    {"etc/keymill.service": service + "LoadCredential=\\\n# why\nkeymill-master-key:{dir}/good"},
		"the last line counts": {"etc/keymill.service": service +
			"LoadCredential=keymill-master-key:{dir}/wrong\nLoadCredential=other:/x\nLoadCredential=keymill-master-key:{dir}/good\n"},
		"a drop-in": {
			"etc/keymill.service":           service + "LoadCredential=keymill-master-key:{dir}/wrong\n",
			"run/keymill.service.d/10.conf": "[Service]\nLoadCredential=\nLoadCredential=keymill-master-key:{dir}/good\n",
		},
		"the last drop-in": {
			"etc/keymill.service":           service,
			"run/keymill.service.d/20.conf": "[Service]\nLoadCredential=keymill-master-key:{dir}/good\n",
			"etc/keymill.service.d/10.conf": "[Service]\nLoadCredential=keymill-master-key:{dir}/wrong\n",
		},
		"a drop-in that replaces another": {
			"etc/keymill.service":           service,
			"run/keymill.service.d/10.conf": "[Service]\nLoadCredential=keymill-master-key:{dir}/wrong\n",
			"etc/keymill.service.d/10.conf": "[Service]\nLoadCredential=keymill-master-key:{dir}/good\n",
		},
		"the more important directory": {
			"run/keymill.service": service + "LoadCredential=keymill-master-key:{dir}/wrong\n",
			"etc/keymill.service": service + "LoadCredential=keymill-master-key:{dir}/good\n",
		},
		"loaded before set": {"etc/keymill.service": service +
			"LoadCredential=keymill-master-key:{dir}/good\nSetCredential=keymill-master-key:" + wrongKey + "\n"},
		"a variable with the file": {"etc/keymill.service": service + "Environment=A=b \"KEYMILL_MASTER_KEY_FILE={dir}/good\"\n"},
		"a variable with the key":  {"etc/keymill.service": service + "Environment='KEYMILL_MASTER_KEY=" + goodKey + "'\n"},
		"a file of variables": {
			"etc/keymill.service": service + "Environment=KEYMILL_MASTER_KEY_FILE={dir}/wrong\nEnvironmentFile=-/no/such\nEnvironmentFile=-{dir}/env\n",
			"env":                 "# where it is\nKEYMILL_MASTER_KEY_FILE=\"{dir}/good\"\n",
		},
		"the variable before the credential": {"etc/keymill.service": service +
			"LoadCredential=keymill-master-key:{dir}/wrong\nEnvironment=KEYMILL_MASTER_KEY_FILE={dir}/good\n"},
	} {
		files["good"], files["wrong"] = goodKey+"\n", wrongKey
		dir := write(t, files)
		want, err := config.ParseMasterKey("test", []byte(goodKey))
		if err != nil {
			t.Fatal(err)
		}
		u, err := readUnit([]string{dir + "/etc", dir + "/run", dir + "/none"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if key, source, err := u.masterKey(&config.Config{}); err != nil || key != want || !strings.Contains(source, "keymill.service") {
			t.Errorf("%s: from %q: %v", name, source, err)
		}
	}
}

// TestAMasterKeyThatOnlySystemdReadsIsExplained, without showing it.
func TestAMasterKeyThatOnlySystemdReadsIsExplained(t *testing.T) {
	for setting, want := range map[string]string{
		"":                                "no unit keymill.service names one",
		"LoadCredential=other:/etc/other": "no unit keymill.service names one",
		"LoadCredential=keymill-master-key:/none":                     "open /none: no such file or directory (",
		"LoadCredential=keymill-master-key:%d/x":                      "has a specifier that doctor does not know (",
		"ImportCredential=keymill-*":                                  "open /etc/credstore/keymill-master-key: no such file",
		"ImportCredential=other-*":                                    "no unit keymill.service names one",
		"LoadCredential=keymill-master-key":                           "open /etc/credstore/keymill-master-key: no such file",
		"LoadCredential=keymill-master-key:{dir}/keymill.service":     "keymill.service does not hold a master key",
		"LoadCredentialEncrypted=keymill-master-key:/etc/keymill/key": "systemd-creds decrypt --name=keymill-master-key /etc/keymill/key -",
		"SetCredential=keymill-master-key:" + goodKey:                 "give doctor the same value in the variable KEYMILL_MASTER_KEY",
		"SetCredentialEncrypted=keymill-master-key:" + goodKey:        "write the value of SetCredentialEncrypted to FILE, then: KEYMILL_MASTER_KEY=\"$(systemd-creds decrypt --name=keymill-master-key FILE -)\" keymill doctor",
		"EnvironmentFile=/no/such":                                    "open /no/such: no such file",
	} {
		dir := write(t, map[string]string{"keymill.service": "[Service]\n" + setting + "\n"})
		u, err := readUnit([]string{dir})
		if err == nil {
			_, _, err = u.masterKey(&config.Config{})
		}
		var hint *terminal.Error
		text := ""
		if err != nil {
			text = err.Error()
		}
		if errors.As(err, &hint) {
			text += "; " + hint.Hint
		}
		if !strings.Contains(text, want) || strings.Contains(text, goodKey) || strings.Contains(text, "make one") {
			t.Errorf("%s: %q", setting, text)
		}
	}
}

// TestTheUnitPathOfSystemdIsUsed if the environment has it.
func TestTheUnitPathOfSystemdIsUsed(t *testing.T) {
	for path, want := range map[string]string{
		"":       "/etc/systemd/system /run/systemd/system ",
		"/a:/b":  "/a /b",
		"/a:/b:": "/a /b /etc/systemd/system ",
	} {
		t.Setenv("SYSTEMD_UNIT_PATH", path)
		if got := strings.Join(unitDirs(), " "); got != want && (!strings.HasSuffix(want, " ") || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %s", path, got)
		}
	}
}
