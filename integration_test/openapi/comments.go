package openapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
)

// module is the directory of the main module.
const module = "../.."

// comments maps "import/path.Type" and "import/path.Type.Field" to what the code says about them.
type comments map[string]string

// readComments reads the packages that have types of the API.
func readComments(packages ...string) (comments, error) {
	found := comments{}
	for _, path := range packages {
		files, err := filepath.Glob(filepath.Join(module, strings.TrimPrefix(path, "keymill/"), "*.go"))
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				return nil, err
			}
			for _, d := range parsed.Decls {
				if d, ok := d.(*ast.GenDecl); ok {
					found.add(path, d)
				}
			}
		}
	}
	return found, nil
}

func (c comments) add(path string, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		name := path + "." + t.Name.Name
		if c[name] = oneLine(t.Doc); c[name] == "" {
			c[name] = oneLine(d.Doc)
		}
		s, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range s.Fields.List {
			text := oneLine(f.Doc)
			if text == "" {
				text = oneLine(f.Comment)
			}
			for _, field := range f.Names {
				c[name+"."+field.Name] = text
			}
		}
	}
}

func oneLine(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }

func (c comments) ofType(t reflect.Type) string { return c[t.PkgPath()+"."+t.Name()] }

func (c comments) ofField(t reflect.Type, f reflect.StructField) string {
	return c[t.PkgPath()+"."+t.Name()+"."+f.Name]
}

var (
	requiredWord = regexp.MustCompile(`\brequired\b`)
	valueList    = regexp.MustCompile(`"[\w+]+"(?:, (?:which is the default, )?(?:or )?"[\w+]+")* or "[\w+]+"|"[\w+]+", which is the default, or "[\w+]+"`)
	quotedValue  = regexp.MustCompile(`"([\w+]+)"`)
)

// values returns the values that a comment lists, nil if it lists none or not all.
func values(comment string) (list []string) {
	if strings.Contains(comment, "…") {
		return nil
	}
	for _, m := range quotedValue.FindAllStringSubmatch(valueList.FindString(comment), -1) {
		list = append(list, m[1])
	}
	return list
}
