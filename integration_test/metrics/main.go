// Command metrics measures the size and form of the Go code of this repository. It prints a
// table, then one line for each bound that is exceeded and for each word that
// docs/CONTRIBUTING.md asks to avoid. It exits with 1 if there is such a line. scripts/metrics
// runs it.
//
// Test files do not count, unless a line says so. A code line has at least one token that is
// not a comment.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// Bounds of the whole repository.
const (
	maxFunctionMedian = 12
	maxFunctionP90    = 40
	maxFunctionLines  = 80
	maxParameters     = 5
	maxFileLines      = 500
	minFileMedian     = 80
	maxFileMedian     = 180
	maxInterfaces     = 7
)

// maxCodeLines has the bounds of the product's packages. Packages without an entry have
// defaultCodeLines.
var maxCodeLines = map[string]int{
	"issuer": 4200, "issuer/endpoint": 2300, "cmd/keymill": 3200,
}

const defaultCodeLines = 3000

func main() {
	if len(os.Args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: scripts/metrics")
		os.Exit(2)
	}
	exceeded, err := run(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "metrics:", err)
		os.Exit(2)
	}
	if exceeded {
		os.Exit(1)
	}
}

// run measures the tree below the current directory, which must be the root of the
// repository. It reports whether a bound is exceeded.
func run(w io.Writer) (exceeded bool, err error) {
	packages, err := measureTree(".")
	if err != nil {
		return false, err
	}
	if len(packages) < 8 {
		return false, errors.New("found fewer than 8 packages; run it in the root of the repository")
	}
	printPackages(w, packages)
	words, err := discouragedWords(".")
	if err != nil {
		return false, err
	}
	for _, p := range append(problems(packages), words...) {
		fmt.Fprintln(w, "exceeded:", p)
		exceeded = true
	}
	return exceeded, nil
}

func printPackages(w io.Writer, packages []*pkg) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "code\tcomments\tper line\tfiles\tfunctions\tmedian\tp90\tmax\tinterfaces\tdocumented\t  package")
	var product, all pkg
	for _, p := range packages {
		p.print(t, p.dir)
		all.add(p)
		if p.product() {
			product.add(p)
		}
	}
	product.print(t, "the product")
	all.print(t, "everything, tests excepted")
	t.Flush()
	fmt.Fprintf(w, "files of the product: median %d lines, longest %d (tests included %d)\n",
		percentile(product.files, 50), slices.Max(product.files), slices.Max(append(all.files, all.testFiles...)))
}

func (p *pkg) print(w io.Writer, name string) {
	fmt.Fprintf(w, "%d\t%d\t%.2f\t%d\t%d\t%d\t%d\t%d\t%d\t%d/%d\t  %s\n", p.code, p.comments,
		float64(p.comments)/float64(max(p.code, 1)), len(p.files), len(p.functions),
		percentile(p.functions, 50), percentile(p.functions, 90), percentile(p.functions, 100),
		p.interfaces, p.documented, p.exported, name)
}

// problems lists the bounds that are exceeded.
func problems(packages []*pkg) []string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	var product pkg
	for _, p := range packages {
		list = append(list, p.faults...)
		if !p.product() {
			continue
		}
		product.add(p)
		if most := cmp.Or(maxCodeLines[p.dir], defaultCodeLines); p.code > most {
			add("%s has %d code lines, at most %d", p.dir, p.code, most)
		}
	}
	if n := percentile(product.functions, 50); n > maxFunctionMedian {
		add("the median function has %d lines, at most %d", n, maxFunctionMedian)
	}
	if n := percentile(product.functions, 90); n > maxFunctionP90 {
		add("nine in ten functions have up to %d lines, at most %d", n, maxFunctionP90)
	}
	if n := percentile(product.files, 50); n < minFileMedian || n > maxFileMedian {
		add("the median file has %d lines, between %d and %d expected", n, minFileMedian, maxFileMedian)
	}
	if product.interfaces > maxInterfaces {
		add("%d interfaces, at most %d", product.interfaces, maxInterfaces)
	}
	return list
}

// percentile returns the smallest value that p percent of the list do not exceed, 0 for an
// empty list.
func percentile(list []int, p int) int {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// product reports whether the package is part of the product. The others are tests.
func (p *pkg) product() bool {
	return !strings.HasPrefix(p.dir, "integration_test") && p.dir != "storage/storagetest"
}
