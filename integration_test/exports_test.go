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

// Types that no other package may see. Each is named by import path and name.
var (
	privateKeys = []string{
		"crypto.PrivateKey", "crypto.Signer", "crypto.Decrypter", "crypto/rsa.PrivateKey",
		"crypto/ecdsa.PrivateKey", "crypto/ed25519.PrivateKey", "crypto/ecdh.PrivateKey",
	}
	transactions = []string{"go.etcd.io/bbolt.Tx", "go.etcd.io/bbolt.DB", "go.etcd.io/bbolt.Bucket"}
	requests     = []string{"net/http.Request", "net/http.ResponseWriter"}
)

// TestExportedAPIsShowNoPrivateType reads the exported API of each package with the type checker:
// functions, methods, fields and constants, however deeply a type is nested.
func TestExportedAPIsShowNoPrivateType(t *testing.T) {
	everything := slices.Concat(privateKeys, transactions, requests)
	exceptHTTP := slices.Concat(privateKeys, transactions) // for packages that serve HTTP
	for path, forbidden := range map[string][]string{
		"keymill/keystore":              everything,
		"keymill/issuer":                everything,
		"keymill/issuer/refusal":        everything,
		"keymill/issuer/password":       everything,
		"keymill/issuer/outbox":         everything,
		"keymill/issuer/api":            everything,
		"keymill/issuer/webhook":        everything, // it sends requests and shows none
		"keymill/issuer/endpoint":       exceptHTTP,
		"keymill/issuer/endpoint/admin": exceptHTTP,
		"keymill/issuer/endpoint/limit": everything,
		"keymill/storage":               everything,
		"keymill/storage/audit":         everything,
		"keymill/storage/bolt":          everything,
		"keymill/storage/optimistic":    everything,
		"keymill/storage/sealed":        everything,
		"keymill/jwks":                  exceptHTTP,
	} {
		api := exportedAPI{forbidden: forbidden, seen: map[types.Type]bool{}}
		api.read(load(t, path))
		for _, found := range api.found {
			t.Errorf("%s: %s", path, found)
		}
		if len(api.seen) < 3 {
			t.Errorf("%s: read %d types only: the test misses most of the package", path, len(api.seen))
		}
	}
}

// TestPrivateTypesAreFound reads packages that do show such types, so that the test above cannot
// pass because it finds nothing.
func TestPrivateTypesAreFound(t *testing.T) {
	for path, forbidden := range map[string][]string{
		"crypto/x509": privateKeys, "go.etcd.io/bbolt": transactions, "keymill/jwks": requests,
	} {
		api := exportedAPI{forbidden: forbidden, seen: map[types.Type]bool{}}
		api.read(load(t, path))
		if len(api.found) == 0 {
			t.Errorf("%s shows some of %v, and the test found none", path, forbidden)
		}
	}
}

// load reads the exported API of a package from the build cache.
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

// exportedAPI walks all types that an importing package can name or get a value of.
type exportedAPI struct {
	forbidden []string
	seen      map[types.Type]bool
	found     []string // places that show a forbidden type
}

func (a *exportedAPI) read(pkg *types.Package) {
	for _, name := range pkg.Scope().Names() {
		if o := pkg.Scope().Lookup(name); o.Exported() {
			a.walk(o.Type(), name, pkg)
		}
	}
}

func (a *exportedAPI) walk(t types.Type, where string, home *types.Package) {
	if a.seen[t] {
		return
	}
	a.seen[t] = true
	switch t := t.(type) {
	case *types.Named:
		a.named(t, where, home)
	case *types.Alias:
		a.walk(types.Unalias(t), where, home)
	case *types.Pointer:
		a.walk(t.Elem(), where, home)
	case *types.Slice:
		a.walk(t.Elem(), where, home)
	case *types.Array:
		a.walk(t.Elem(), where, home)
	case *types.Chan:
		a.walk(t.Elem(), where, home)
	case *types.Map:
		a.walk(t.Key(), where, home)
		a.walk(t.Elem(), where, home)
	case *types.Signature:
		a.tuple(t.Params(), where, home)
		a.tuple(t.Results(), where, home)
	case *types.Struct:
		for v := range t.Fields() {
			if v.Exported() {
				a.walk(v.Type(), where+"."+v.Name(), home)
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			a.walk(m.Type(), where+"."+m.Name(), home)
		}
	}
}

// named compares the name of a type with the forbidden ones. It looks inside the type only if this
// package declares it, because another package decides what its own types show.
func (a *exportedAPI) named(t *types.Named, where string, home *types.Package) {
	o := t.Obj()
	if o.Pkg() == nil {
		return
	}
	// The type is removed from seen, so that every place that shows it is reported.
	if name := o.Pkg().Path() + "." + o.Name(); slices.Contains(a.forbidden, name) {
		delete(a.seen, t)
		a.found = append(a.found, fmt.Sprintf("%s shows %s", where, name))
		return
	}
	for arg := range t.TypeArgs().Types() {
		a.walk(arg, where, home)
	}
	if o.Pkg() != home {
		return
	}
	a.walk(t.Underlying(), where, home)
	for m := range t.Methods() {
		if m.Exported() {
			a.walk(m.Type(), where+"."+m.Name(), home)
		}
	}
}

func (a *exportedAPI) tuple(t *types.Tuple, where string, home *types.Package) {
	for v := range t.Variables() {
		a.walk(v.Type(), where, home)
	}
}
