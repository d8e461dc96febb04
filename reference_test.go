package baton_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateDocs = flag.Bool("docs.update", false, "write docs/reference.md anew, of the code")

// referenced are the packages of docs/reference.md, those of modules of their own too.
var referenced = []string{
	"ha", "ha/client", "ha/activehttp", "ha/activegrpc", "ha/activegrpc/follow", "ha/admin", "ha/metrics", "ha/onfence", "ha/raftfsm", "ha/watchdog",
	"fence", "fence/filefence", "fence/grpcfence", "fence/httpfence", "fence/k8sfence", "fence/redisfence", "fence/s3fence", "fence/sqlfence",
}

// inside are the packages that programs need not import: ha has of them what users touch.
var inside = []string{"log", "storage", "transport"}

// TestReference_Packages: a package that programs may import is in docs/reference.md.
func TestReference_Packages(t *testing.T) {
	known := append(slices.Clone(inside), referenced...)
	for _, top := range []string{"ha", "fence", "log", "storage", "transport"} {
		err := filepath.WalkDir(top, func(dir string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || !d.IsDir():
				return err
			case d.Name() == "internal" || d.Name() == "testdata":
				return fs.SkipDir
			}
			names, err := filepath.Glob(filepath.Join(dir, "*.go"))
			if err != nil {
				return err
			}
			for _, name := range names {
				f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
				if err != nil {
					return err
				}
				exports := slices.ContainsFunc(f.Decls, exported)
				if strings.HasSuffix(name, "_test.go") || f.Name.Name == "main" || !exports || slices.Contains(known, filepath.ToSlash(dir)) {
					continue
				}
				t.Errorf("package %s is in neither list", dir)
				break
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// exported says whether a declaration is for whoever imports the package.
func exported(d ast.Decl) bool {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Recv == nil && d.Name.IsExported()
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					return true
				}
			case *ast.ValueSpec:
				if slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
					return true
				}
			}
		}
	}
	return false
}

// TestReference: docs/reference.md has every field, method of an interface, error, event, state and obstacle, in the words of the code. After a
// change of either: go test . -run TestReference -docs.update
func TestReference(t *testing.T) {
	var page bytes.Buffer
	page.WriteString("# Reference\n\nEvery field, error, event and constant, as the code documents it; this page is made of it (`go test . -run TestReference -docs.update`).\n" +
		"Metrics are in [metrics](metrics.md); functions and methods in the packages' documentation (`go doc github.com/baton-ha/baton/ha`).\n" +
		"A package that is a module of its own, so that what it needs is not in your go.sum, says so.\n")
	for _, dir := range referenced {
		reference(t, &page, dir)
	}
	const file = "docs/reference.md"
	if *updateDocs {
		if err := os.WriteFile(file, page.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(was, page.Bytes()) {
		t.Errorf("%s is not what the code says: go test . -run TestReference -docs.update", file)
	}
}

// documented is the documentation of a package.
func documented(t *testing.T, dir string) (*doc.Package, *token.FileSet, []*ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || regexp.MustCompile(`_(windows|other)\.go$`).MatchString(name) {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	pkg, err := doc.NewFromFiles(fset, files, module+"/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	return pkg, fset, files
}

// reference writes what a package exports that is not a function.
func reference(t *testing.T, w *bytes.Buffer, dir string) {
	t.Helper()
	pkg, fset, files := documented(t, dir)
	var body bytes.Buffer
	for _, v := range pkg.Consts {
		values(t, &body, pkg, fset, v)
	}
	for _, v := range pkg.Vars {
		values(t, &body, pkg, fset, v)
	}
	for _, typ := range pkg.Types {
		fields(t, &body, pkg, fset, files, typ)
	}
	if body.Len() > 0 {
		fmt.Fprintf(w, "\n## Package %s\n", dir)
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil {
			fmt.Fprintf(w, "\nA module of its own: `go get %s`.\n", strings.Fields(string(mod))[1])
		}
		w.Write(body.Bytes())
	}
}

// fields writes a struct with something exported in it, an interface, or a type with constants.
func fields(t *testing.T, w *bytes.Buffer, pkg *doc.Package, fset *token.FileSet, files []*ast.File, typ *doc.Type) {
	t.Helper()
	rows := members(t, pkg, fset, files, typ.Decl.Specs[0].(*ast.TypeSpec))
	if rows == "" && len(typ.Consts)+len(typ.Vars) == 0 {
		return
	}
	fmt.Fprintf(w, "\n### %s.%s\n\n%s", pkg.Name, typ.Name, markdownOf(pkg, typ.Doc))
	if rows != "" {
		fmt.Fprintf(w, "\n%s", rows)
	}
	for _, v := range append(typ.Consts, typ.Vars...) {
		values(t, w, pkg, fset, v)
	}
}

// members are the fields of a struct, or the methods of an interface: also of one that belongs to another package of ours, and has only a name here.
func members(t *testing.T, pkg *doc.Package, fset *token.FileSet, files []*ast.File, spec *ast.TypeSpec) string {
	t.Helper()
	var list []*ast.Field
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		list = typ.Fields.List
	case *ast.InterfaceType:
		list = typ.Methods.List
	case *ast.SelectorExpr:
		dir, ok := strings.CutPrefix(imported(files, typ.X.(*ast.Ident).Name), module+"/")
		if !ok || !spec.Assign.IsValid() {
			return ""
		}
		pkg, fset, files := documented(t, dir)
		for _, other := range pkg.Types {
			if other.Name == typ.Sel.Name {
				return members(t, pkg, fset, files, other.Decl.Specs[0].(*ast.TypeSpec))
			}
		}
		t.Fatalf("%s has no type %s", dir, typ.Sel.Name)
	}
	var rows strings.Builder
	for _, f := range list {
		var names []string
		for _, n := range f.Names {
			if n.IsExported() {
				names = append(names, "`"+n.Name+"`")
			}
		}
		if len(f.Names) == 0 { // embedded
			names = []string{"all of"}
		}
		if len(names) > 0 {
			fmt.Fprintf(&rows, "- %s `%s`%s\n", strings.Join(names, ", "), code(t, fset, f.Type), said(pkg, f.Doc, f.Comment))
		}
	}
	return rows.String()
}

// imported is the path of the package that files import under a name.
func imported(files []*ast.File, name string) string {
	for _, f := range files {
		for _, i := range f.Imports {
			p := strings.Trim(i.Path.Value, `"`)
			if i.Name != nil && i.Name.Name == name || i.Name == nil && path.Base(p) == name {
				return p
			}
		}
	}
	return ""
}

// values writes a group of constants or variables.
func values(t *testing.T, w *bytes.Buffer, pkg *doc.Package, fset *token.FileSet, v *doc.Value) {
	var rows bytes.Buffer
	for _, spec := range v.Decl.Specs {
		spec := spec.(*ast.ValueSpec)
		for i, n := range spec.Names {
			if !n.IsExported() {
				continue
			}
			value := ""
			if i < len(spec.Values) {
				if lit, ok := spec.Values[i].(*ast.BasicLit); ok {
					value = " `" + code(t, fset, lit) + "`"
				} else if call, ok := spec.Values[i].(*ast.CallExpr); ok && len(call.Args) > 0 && v.Decl.Tok == token.VAR {
					if lit, ok := call.Args[0].(*ast.BasicLit); ok {
						value = " `" + code(t, fset, lit) + "`"
					}
				}
			}
			text := strings.Replace(said(pkg, spec.Doc, spec.Comment), ": "+n.Name+": ", ": ", 1)
			fmt.Fprintf(&rows, "- `%s`%s%s\n", n.Name, value, text)
		}
	}
	if rows.Len() > 0 {
		head := markdownOf(pkg, v.Doc)
		if head != "" {
			head = "\n" + head
		}
		fmt.Fprintf(w, "%s\n%s", head, rows.Bytes())
	}
}

func code(t *testing.T, fset *token.FileSet, n ast.Node) string {
	var b bytes.Buffer
	if err := format.Node(&b, fset, n); err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// said is the text of a field's comments, on one line.
func said(pkg *doc.Package, groups ...*ast.CommentGroup) string {
	var texts []string
	for _, g := range groups {
		if g != nil {
			texts = append(texts, strings.Fields(markdownOf(pkg, g.Text()))...)
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return ": " + strings.Join(texts, " ")
}

// markdownOf is a documentation text as Markdown, names in brackets without links.
func markdownOf(pkg *doc.Package, text string) string {
	p := pkg.Printer()
	p.DocLinkURL = func(*comment.DocLink) string { return "" }
	return string(p.Markdown(pkg.Parser().Parse(text)))
}
