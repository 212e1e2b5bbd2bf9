package main

import (
	"encoding/binary"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// containerUser is the user of a container whose volumes have the group 2000 (fsGroup in Kubernetes).
func containerUser() syscall.Credential {
	return syscall.Credential{Uid: 1001, Gid: 1001, Groups: []uint32{2000}}
}

// A mount is a way to mount a secret: it puts content at dir/name.
type mount func(t *testing.T, dir, name, content string)

// mountedFile mounts a plain file.
func mountedFile(uid, gid int, mode os.FileMode) mount {
	return func(t *testing.T, dir, name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		for _, err := range []error{os.WriteFile(path, []byte(content), 0o600), os.Chown(path, uid, gid), os.Chmod(path, mode)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// asKubernetes mounts a file behind two links, as Kubernetes does.
func asKubernetes(file mount) mount {
	return func(t *testing.T, dir, name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, "..2026_11_27"), 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		file(t, filepath.Join(dir, "..2026_11_27"), name, content)
		os.Symlink("..2026_11_27", filepath.Join(dir, "..data")) // fails for the second key
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// asSystemd mounts a file of root with an access control list for one user, as systemd does.
func asSystemd(uid uint32) mount {
	return func(t *testing.T, dir, name, content string) {
		t.Helper()
		mountedFile(0, 0, 0o400)(t, dir, name, content)
		list := binary.LittleEndian.AppendUint32(nil, 2) // the version of the format, acl(5)
		for _, e := range []struct {
			tag, perm uint16
			id        uint32
		}{{1, 4, 1<<32 - 1}, {2, 4, uid}, {4, 0, 1<<32 - 1}, {16, 4, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
			list = binary.LittleEndian.AppendUint16(list, e.tag)
			list = binary.LittleEndian.AppendUint16(list, e.perm)
			list = binary.LittleEndian.AppendUint32(list, e.id)
		}
		if err := unix.Setxattr(filepath.Join(dir, name), "system.posix_acl_access", list, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// mountSecrets mounts every secret of a server and of a client in the place. It returns the
// environment that names the files, and the directory.
func (p *place) mountSecrets(t *testing.T, m mount) (env []string, dir string) {
	t.Helper()
	dir = filepath.Join(p.dir, "secrets")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m(t, dir, "keymill-master-key", "\ufeff"+testKey("mounted")+"\r\n")
	m(t, dir, "keymill-webhook-secret", "\ufeff"+strings.TrimSpace(goodHookSecret)+"\r\n")
	m(t, dir, "keymill-client-secret", "\ufeffkms_x\r\n")
	return environment("KEYMILL_DATA="+p.data, "KEYMILL_KEYS_ALGORITHMS=EdDSA", "KEYMILL_WEBHOOK_URL=https://hooks.example"), dir
}

func inFiles(dir string) []string {
	return []string{"KEYMILL_MASTER_KEY_FILE=" + dir + "/keymill-master-key", "KEYMILL_WEBHOOK_SECRET_FILE=" + dir + "/keymill-webhook-secret"}
}

func inCredentials(dir string) []string { return []string{"CREDENTIALS_DIRECTORY=" + dir} }

// TestMountedSecretsAreReadAsOrchestratorsMountThem: the real program runs as the user 1001 with the
// group 2000.
func TestMountedSecretsAreReadAsOrchestratorsMountThem(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	for name, tt := range map[string]struct {
		mount mount
		where func(dir string) []string
	}{
		"Kubernetes, defaultMode 0440 with fsGroup": {asKubernetes(mountedFile(0, 2000, 0o440)), inFiles},
		"root's, readable by our group":             {mountedFile(0, 2000, 0o640), inFiles},
		"Swarm, mode 0400 with uid":                 {mountedFile(1001, 1001, 0o400), inFiles},
		"systemd":                                   {asSystemd(1001), inCredentials},
		"Kubernetes, as credentials":                {asKubernetes(mountedFile(0, 2000, 0o440)), inCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.runAs(containerUser())
			env, dir := p.mountSecrets(t, tt.mount)
			env = append(env, tt.where(dir)...)
			c := p.startWith(env, p.serveArgs()...)
			c.signal(syscall.SIGTERM)
			if code := c.wait(failsafe); code != 0 {
				t.Errorf("code %d", code)
			}
			args := []string{"token", "--client", "billing", "--issuer", "http://127.0.0.1:1"}
			if _, found := strings.CutPrefix(env[len(env)-1], "CREDENTIALS_DIRECTORY="); !found {
				args = append(args, "--client-secret-file", filepath.Join(dir, "keymill-client-secret"))
			}
			// The secret is read before the request, which finds no server.
			if _, errs, code := p.runWith(env, args...); code != 1 || !strings.Contains(errs, "request to http://127.0.0.1:1 failed") {
				t.Errorf("token: code %d, %s", code, errs)
			}
		})
	}
}

// TestMountedSecretsThatOthersCanReadAreRefused with the line that mends it, and nothing is created.
func TestMountedSecretsThatOthersCanReadAreRefused(t *testing.T) {
	terminaltest.NeedRoot(t)
	t.Parallel()
	const mend = "in Kubernetes defaultMode: 0440 with fsGroup, in Compose mode: 0400 with uid\n"
	for name, tt := range map[string]struct {
		mount mount
		where func(dir string) []string
		want  string
		hint  string
	}{
		"Kubernetes without defaultMode":  {asKubernetes(mountedFile(0, 2000, 0o644)), inFiles, "may be read by others (mode 0644)", mend},
		"Swarm without mode":              {mountedFile(0, 0, 0o444), inFiles, "may be read by others (mode 0444)", mend},
		"Swarm, as credentials":           {mountedFile(0, 0, 0o444), inCredentials, "may be read by others (mode 0444)", mend},
		"Kubernetes without fsGroup":      {asKubernetes(mountedFile(0, 0, 0o400)), inFiles, "permission denied", mend},
		"own, readable by another group":  {mountedFile(1001, 3000, 0o640), inFiles, "may be read by group 3000, which is not a group of this process (mode 0640)", mend},
		"of another user, with our group": {mountedFile(1002, 2000, 0o440), inFiles, "belongs to uid 1002, which is neither root nor the user of this process", "hint: chown 1001 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.runAs(containerUser())
			env, dir := p.mountSecrets(t, tt.mount)
			check := func(what string, env []string, args ...string) {
				t.Helper()
				_, errs, code := p.runWith(env, args...)
				if code != 1 || !strings.Contains(errs, tt.want) || !strings.Contains(errs, tt.hint) || strings.Count(errs, "\n") != 2 {
					t.Errorf("%s: code %d\n%s", what, code, errs)
				}
				if _, err := os.Lstat(p.data); !os.IsNotExist(err) {
					t.Errorf("%s: the data directory was created (%v)", what, err)
				}
			}
			where := tt.where(dir)
			check("master key", append(env, where...), p.serveArgs()...)
			if len(where) == 1 {
				check("client secret", append(env, where...), "token", "--client", "billing", "--issuer", "http://127.0.0.1:1")
				return
			}
			own := "KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key")
			check("webhook secret", append(env, own, where[1]), p.serveArgs()...)
			check("client secret", env, "token", "--client", "billing", "--issuer", "http://127.0.0.1:1",
				"--client-secret-file", filepath.Join(dir, "keymill-client-secret"))
		})
	}
}
