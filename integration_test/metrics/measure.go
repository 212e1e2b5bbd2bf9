package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A pkg holds the measurements of one directory.
type pkg struct {
	dir                  string // "." is the root
	code, comments       int    // lines
	files, testFiles     []int  // lines of each
	functions            []int  // lines of each, from func to the closing brace
	interfaces           int
	exported, documented int
	faults               []string // places that break a rule

	hasDoc    bool
	variables map[string]bool // names of package variables
	parsed    []*ast.File
}

func (p *pkg) add(other *pkg) {
	p.code += other.code
	p.comments += other.comments
	p.files = append(p.files, other.files...)
	p.testFiles = append(p.testFiles, other.testFiles...)
	p.functions = append(p.functions, other.functions...)
	p.interfaces += other.interfaces
	p.exported += other.exported
	p.documented += other.documented
}

// measureTree reads every Go file below root, nested modules included.
func measureTree(root string) ([]*pkg, error) {
	found := map[string]*pkg{}
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || len(path) > 1 && d.Name()[0] == '.'):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		dir := filepath.Dir(path)
		if found[dir] == nil {
			found[dir] = &pkg{dir: dir, variables: map[string]bool{}}
		}
		return found[dir].measureFile(set, path)
	})
	if err != nil {
		return nil, err
	}
	var list []*pkg
	for _, p := range found {
		if len(p.files) == 0 {
			continue // tests only
		}
		p.finish(set)
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return list, nil
}

func (p *pkg) measureFile(set *token.FileSet, path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Count(string(src), "\n")
	if lines > maxFileLines {
		p.fault("%s has %d lines, at most %d", path, lines, maxFileLines)
	}
	if strings.HasSuffix(path, "_test.go") {
		p.testFiles = append(p.testFiles, lines)
		return nil
	}
	p.files = append(p.files, lines)
	code, comments := countLines(src)
	p.code += code
	p.comments += comments
	// Object resolution distinguishes a local variable from a package variable.
	file, err := parser.ParseFile(set, path, src, parser.ParseComments)
	if err != nil {
		return err
	}
	p.parsed = append(p.parsed, file)
	p.hasDoc = p.hasDoc || file.Doc != nil
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			p.measureFunction(set, d)
		case *ast.GenDecl:
			p.measureDeclaration(d)
		}
	}
	return nil
}

// countLines counts the lines with code and those with comments. A line can have both.
func countLines(src []byte) (code, comments int) {
	set := token.NewFileSet()
	file := set.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	codeLines, commentLines := map[int]bool{}, map[int]bool{}
	for {
		pos, tok, text := s.Scan()
		if tok == token.EOF {
			return len(codeLines), len(commentLines)
		}
		if tok == token.SEMICOLON && text == "\n" {
			continue // inserted by the scanner
		}
		lines := codeLines
		if tok == token.COMMENT {
			lines = commentLines
		}
		first := file.Line(pos)
		for n := range strings.Count(text, "\n") + 1 {
			lines[first+n] = true
		}
	}
}

func (p *pkg) measureFunction(set *token.FileSet, f *ast.FuncDecl) {
	start, end := set.Position(f.Pos()), set.Position(f.End())
	lines := end.Line - start.Line + 1
	p.functions = append(p.functions, lines)
	if lines > maxFunctionLines {
		p.fault("%s: %s has %d lines, at most %d", start, f.Name.Name, lines, maxFunctionLines)
	}
	if n := f.Type.Params.NumFields(); n > maxParameters {
		p.fault("%s: %s has %d parameters, at most %d", start, f.Name.Name, n, maxParameters)
	}
	if f.Recv == nil && f.Name.Name == "init" {
		p.fault("%s: an init function is not allowed", start)
	}
	if f.Name.IsExported() && (f.Recv == nil || ast.IsExported(receiver(f))) {
		p.document(f.Name, f.Doc)
	}
}

func receiver(f *ast.FuncDecl) string {
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func (p *pkg) measureDeclaration(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if _, ok := spec.Type.(*ast.InterfaceType); ok {
				p.interfaces++
			}
			p.document(spec.Name, spec.Doc, spec.Comment, d.Doc)
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				p.document(name, spec.Doc, spec.Comment, d.Doc)
				if d.Tok == token.VAR && name.Name != "_" {
					p.variables[name.Name] = true
				}
			}
		}
	}
}

// document counts an exported name. One comment above a group is enough for the group.
func (p *pkg) document(name *ast.Ident, docs ...*ast.CommentGroup) {
	if !name.IsExported() {
		return
	}
	p.exported++
	if slices.ContainsFunc(docs, func(c *ast.CommentGroup) bool { return c != nil }) {
		p.documented++
	} else {
		p.fault("%s: %s is exported and has no comment", p.dir, name.Name)
	}
}

// finish checks what needs all files of the package: its comment, and that no package variable is
// assigned outside its declaration.
func (p *pkg) finish(set *token.FileSet) {
	if !p.hasDoc {
		p.fault("%s has no package comment", p.dir)
	}
	for _, file := range p.parsed {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, left := range n.Lhs {
						p.assigned(set, left)
					}
				}
			case *ast.IncDecStmt:
				p.assigned(set, n.X)
			}
			return true
		})
	}
}

func (p *pkg) assigned(set *token.FileSet, left ast.Expr) {
	for {
		switch x := left.(type) {
		case *ast.IndexExpr:
			left = x.X
		case *ast.SelectorExpr:
			left = x.X
		case *ast.StarExpr:
			left = x.X
		case *ast.ParenExpr:
			left = x.X
		case *ast.Ident:
			if p.variables[x.Name] && packageLevel(x) {
				p.fault("%s: the package variable %s is changed", set.Position(x.Pos()), x.Name)
			}
			return
		default:
			return
		}
	}
}

// packageLevel reports whether the parser found no local declaration of the name.
func packageLevel(x *ast.Ident) bool {
	if x.Obj == nil {
		return true // declared in another file of the package
	}
	_, local := x.Obj.Decl.(*ast.AssignStmt)
	_, parameter := x.Obj.Decl.(*ast.Field)
	return !local && !parameter
}

func (p *pkg) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}
