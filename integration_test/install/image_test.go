package install

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// layout unpacks the image of the release and returns the directory with its layout.
func layout(t *testing.T) string {
	t.Helper()
	needs(t, "skopeo", "umoci", "tar")
	dir := t.TempDir()
	archive := filepath.Join(released(t), "keymill_"+version+"_oci.tar")
	if err := shell(dir, nil, "tar --extract --file='"+archive+"'"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTheImageIsForEveryArchitecture, with labels, and runs as a user without rights.
func TestTheImageIsForEveryArchitecture(t *testing.T) {
	dir := layout(t)
	for _, arch := range architectures() {
		out, err := run("", nil, "skopeo", "inspect", "--config", "--override-arch", arch, "oci:"+dir)
		if err != nil {
			t.Fatal(err, out)
		}
		var image struct {
			Architecture, OS, Created string
			Config                    struct {
				User, WorkingDir string
				Entrypoint, Cmd  []string
				Volumes          map[string]struct{}
				Labels           map[string]string
			}
		}
		if err := json.Unmarshal([]byte(out), &image); err != nil {
			t.Fatal(err, out)
		}
		c := image.Config
		got := fmt.Sprint(image.Architecture, image.OS, image.Created, c.User, c.Entrypoint, c.Cmd, c.Volumes, c.WorkingDir)
		want := arch + "linux2026-11-28T12:00:00Z65532:65532[/keymill] [serve] map[/var/lib/keymill:{}]/var/lib/keymill"
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%s: %s, want %s", arch, got, want)
		}
		for label, want := range map[string]string{"version": version, "title": "keymill", "licenses": "MIT", "created": "2026-11-28T12:00:00Z"} {
			if got := c.Labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("%s: the label %s is %q", arch, label, got)
			}
		}
		if len(c.Labels["org.opencontainers.image.revision"]) != 40 {
			t.Errorf("%s: the labels lack the commit: %v", arch, c.Labels)
		}
	}
}

// TestTheImageHasAName that programs give it when they load the archive.
func TestTheImageHasAName(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(layout(t), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(raw, &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v: %s", err, raw)
	}
	names := index.Manifests[0].Annotations
	if names["org.opencontainers.image.ref.name"] != version || names["io.containerd.image.name"] != "docker.io/library/keymill:"+version {
		t.Errorf("the names are %v", names)
	}
}

// TestTheImageServes: what umoci unpacks runs as the image's user, on a root directory that is mounted
// read-only, with a new volume. It creates a store, serves it and stops.
func TestTheImageServes(t *testing.T) {
	needs(t, "unshare", "chroot", "curl")
	dir := layout(t)
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := run("", nil, "skopeo", "copy", "--quiet", "--insecure-policy", "--override-arch", runtime.GOARCH, "oci:"+dir, "oci:"+dir+"-one:keymill"); err != nil {
		t.Fatal(err, out)
	}
	t.Cleanup(func() { os.RemoveAll(dir + "-one") })
	if out, err := run("", nil, "umoci", "unpack", "--image", dir+"-one:keymill", bundle); err != nil {
		t.Fatal(err, out)
	}
	root := filepath.Join(bundle, "rootfs")
	certificates, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(certificates) || strings.Count(string(certificates), "BEGIN") < 50 {
		t.Errorf("the certificates of the image: %v", err)
	}
	out, err := run("", []string{"IMAGE=" + root}, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-euo", "pipefail", "machine/image")
	if err != nil || !strings.HasSuffix(out, "served\n") {
		t.Errorf("%v: %s", err, out)
	}
}
