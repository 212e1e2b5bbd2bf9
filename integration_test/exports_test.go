package integration_test

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"slices"
	"testing"
)

// Types that stay inside the room that makes them. A type is named by its package
// and its name.
var (
	privateKeys = []string{
		"crypto.PrivateKey", "crypto.Signer", "crypto.Decrypter", "crypto/rsa.PrivateKey",
		"crypto/ecdsa.PrivateKey", "crypto/ed25519.PrivateKey", "crypto/ecdh.PrivateKey",
	}
	transactions = []string{"go.etcd.io/bbolt.Tx", "go.etcd.io/bbolt.DB", "go.etcd.io/bbolt.Bucket"}
	requests     = []string{"net/http.Request", "net/http.ResponseWriter"}
)

// TestNothingPrivateCrossesAWall reads the exported face of every room with the type
// checker: functions, methods and fields, however deep the type is nested.
func TestNothingPrivateCrossesAWall(t *testing.T) {
	everything := slices.Concat(privateKeys, transactions, requests)
	for room, forbidden := range map[string][]string{
		"keymill/keystore":        everything,
		"keymill/issuer":          everything,
		"keymill/storage":         everything,
		"keymill/storage/audit":   everything,
		"keymill/storage/bolt":    everything,
		"keymill/jwks":            slices.Concat(privateKeys, transactions), // its handler serves HTTP
		"keymill/issuer/endpoint": slices.Concat(privateKeys, transactions), // and so does this room
	} {
		f := face{forbidden: forbidden, seen: map[types.Type]bool{}}
		f.room(load(t, room))
		for _, leak := range f.leaks {
			t.Errorf("%s: %s", room, leak)
		}
		if len(f.seen) < 3 {
			t.Errorf("%s: read %d types: the test looks at too little", room, len(f.seen))
		}
	}
}

// TestTheWallsAreWatched points the same eyes at packages that do show such types.
func TestTheWallsAreWatched(t *testing.T) {
	for pkg, forbidden := range map[string][]string{
		"crypto/x509": privateKeys, "go.etcd.io/bbolt": transactions, "keymill/jwks": requests,
	} {
		f := face{forbidden: forbidden, seen: map[types.Type]bool{}}
		f.room(load(t, pkg))
		if len(f.leaks) == 0 {
			t.Errorf("%s shows none of %v, says the test", pkg, forbidden)
		}
	}
}

// load reads a package's exported face from the build cache.
func load(t *testing.T, path string) *types.Package {
	t.Helper()
	files := map[string]string{} // import path → export data
	for _, p := range list(t, "-deps", "-export", path) {
		files[p.ImportPath] = p.Export
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
	pkg, err := importer.ForCompiler(token.NewFileSet(), "gc", lookup).Import(path)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// A face walks the types that a stranger to the room can name or hold.
type face struct {
	forbidden []string
	seen      map[types.Type]bool
	leaks     []string
}

func (f *face) room(pkg *types.Package) {
	for _, name := range pkg.Scope().Names() {
		if o := pkg.Scope().Lookup(name); o.Exported() {
			f.walk(o.Type(), name, pkg)
		}
	}
}

func (f *face) walk(t types.Type, where string, home *types.Package) {
	if f.seen[t] {
		return
	}
	f.seen[t] = true
	switch t := t.(type) {
	case *types.Named:
		f.named(t, where, home)
	case *types.Alias:
		f.walk(types.Unalias(t), where, home)
	case *types.Pointer:
		f.walk(t.Elem(), where, home)
	case *types.Slice:
		f.walk(t.Elem(), where, home)
	case *types.Array:
		f.walk(t.Elem(), where, home)
	case *types.Chan:
		f.walk(t.Elem(), where, home)
	case *types.Map:
		f.walk(t.Key(), where, home)
		f.walk(t.Elem(), where, home)
	case *types.Signature:
		f.tuple(t.Params(), where, home)
		f.tuple(t.Results(), where, home)
	case *types.Struct:
		for v := range t.Fields() {
			if v.Exported() {
				f.walk(v.Type(), where+"."+v.Name(), home)
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			f.walk(m.Type(), where+"."+m.Name(), home)
		}
	}
}

// named judges a type by its name, and opens it only if it is the room's own:
// what a foreign type holds is a foreign room's business.
func (f *face) named(t *types.Named, where string, home *types.Package) {
	o := t.Obj()
	if o.Pkg() == nil {
		return
	}
	// Forgotten again, so that a second place that shows the type is told as well.
	if name := o.Pkg().Path() + "." + o.Name(); slices.Contains(f.forbidden, name) {
		delete(f.seen, t)
		f.leaks = append(f.leaks, fmt.Sprintf("%s shows %s", where, name))
		return
	}
	for arg := range t.TypeArgs().Types() {
		f.walk(arg, where, home)
	}
	if o.Pkg() != home {
		return
	}
	f.walk(t.Underlying(), where, home)
	for m := range t.Methods() {
		if m.Exported() {
			f.walk(m.Type(), where+"."+m.Name(), home)
		}
	}
}

func (f *face) tuple(t *types.Tuple, where string, home *types.Package) {
	for v := range t.Variables() {
		f.walk(v.Type(), where, home)
	}
}
