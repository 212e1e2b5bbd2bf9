//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// soname is the name of the library since OpenSSL 3.0. Later versions of OpenSSL 3 keep it.
const soname = "libcrypto.so.3"

// directories are where systems with glibc have the library: Debian and Ubuntu, then Fedora, RHEL and SUSE, then Arch. The
// list is fixed and LD_LIBRARY_PATH does not count, so that the environment of a server does not decide what code gets
// its private keys.
func directories() []string {
	triple := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return []string{"/usr/lib/" + triple, "/lib/" + triple, "/usr/lib64", "/lib64", "/usr/lib", "/lib"}
}

// find returns the path of the library of this system, without symbolic links.
func find() (string, error) {
	for _, dir := range directories() {
		if path, err := filepath.EvalSymlinks(filepath.Join(dir, soname)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is in none of %v; install OpenSSL 3 (the package libssl3 on Debian)", soname, directories())
}

// An identity is what a file was when it was read.
type identity struct {
	Dev, Inode   uint64
	Size         int64
	Mtime, Ctime int64 // in nanoseconds
	SHA256       string
}

// maxLibraryBytes is ten times what the library has.
const maxLibraryBytes = 64 << 20

// identify reads the file at path.
func identify(path string) (identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return identity{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return identity{}, err
	}
	id := identityOf(info)
	if !info.Mode().IsRegular() || id.Size > maxLibraryBytes {
		return id, fmt.Errorf("%s is not a library: it has the mode %s and %d bytes", path, info.Mode(), id.Size)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, maxLibraryBytes)); err != nil {
		return id, err
	}
	id.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return id, nil
}

func identityOf(info os.FileInfo) identity {
	stat := info.Sys().(*syscall.Stat_t)
	return identity{
		Dev: stat.Dev, Inode: stat.Ino, Size: stat.Size,
		Mtime: time.Unix(stat.Mtim.Unix()).UnixNano(), Ctime: time.Unix(stat.Ctim.Unix()).UnixNano(),
	}
}

// changed compares the file at path with the one that was loaded. A file that took its place, as updates of
// systems do it, is an error: the old one stays mapped. One that was overwritten is not what was proven, because pages that
// are read for the first time have the new bytes. The change of a link's or owner's count alone (ctime) is neither.
func (l *Library) changed() (overwritten bool, err error) {
	info, err := os.Stat(l.path)
	if err != nil {
		return false, err
	}
	now := identityOf(info)
	switch {
	case now.Dev != l.file.Dev || now.Inode != l.file.Inode:
		return false, errors.New("another file has its name")
	case now.Size != l.file.Size || now.Mtime != l.file.Mtime:
		return true, fmt.Errorf("%s was overwritten while the server ran", l.path)
	}
	return false, nil
}
