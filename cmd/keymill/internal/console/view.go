package console

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
)

// A page is what the templates show.
type page struct {
	Title    string
	Template string // of the content
	Here     string // the path below the prefix
	Base     string // of all links; "" on a page for a browser that is not logged in
	Nav      []link
	Problem  string // why there is no content, or less than expected
	Done     string // what was done just before
	Status   int    // of the answer; 0 for the usual one
	To       string // where the browser goes instead; "" for nowhere
	Notes    []string
	Body     any
	Command  string // that shows the same in a terminal
	Live     bool   // the page renews itself
	Gone     bool   // the server does not answer; the page tries again
	Again    string // what a page that renews itself asks for
	Still    link   // turns the renewal of a live page off, or on again
}

// A link is a place of the navigation.
type link struct{ Path, Text string }

// navigation lists the pages in the order of their links.
var navigation = []link{
	{"", "Overview"}, {"keys", "Keys"}, {"verifiers", "Verifiers"}, {"clients", "Clients"}, {"audiences", "Audiences"},
	{"users", "Users"}, {"sessions", "Sessions"}, {"nodes", "Nodes"}, {"audit", "Audit"}, {"settings", "Settings"},
}

// Current reports whether a link of the navigation is the page itself, or a page of its kind.
func (p *page) Current(path string) bool {
	first, _, _ := strings.Cut(p.Here, "/")
	return path == p.Here || path != "" && (path == first || path == first+"s")
}

// A request is one from a browser that is logged in.
type request struct {
	*http.Request
	base string
	now  time.Time
}

// field returns a parameter of the query without spaces around it.
func (r *request) field(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }

// to returns the link to a page with parameters: name, value, …
func (r *request) to(path string, parameters ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			query.Set(parameters[i], parameters[i+1])
		}
	}
	if len(query) == 0 {
		return r.base + path
	}
	return r.base + path + "?" + query.Encode()
}

// badInput is a parameter that cannot be used.
type badInput struct{ text string }

// Error implements error.
func (e badInput) Error() string { return e.text }

// A table is a list of a page.
type table struct {
	Caption string
	Columns []string
	Rows    [][]cell
	Titled  bool   // the heading of the page says the same as the caption
	Empty   string // what is said if there are no rows
	More    string // link to the next rows; "" if there are none
	MoreIs  string // the words of that link
}

// A cell is one entry of a table or a list of facts.
type cell struct {
	Text string
	Href string
	Hint string // small, after the text
	Kind string // "": words; "id", "word": a name of a machine, long or short; "long": words that may be broken anywhere; "time"; "good", "bad" or "dull": a state
}

// A fact is a named cell.
type fact struct {
	Name string
	cell
}

// maxText bounds a text in a table. The pages about one thing show all of it.
const maxText = 48

// short makes a text printable and bounds it. Characters that would turn the direction of text or that are not
// shown are escaped, as the other commands do.
func short(s string) string { return bounded(s, maxText) }

// bounded is short with another bound, in characters.
func bounded(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return bounded(s[:i], most) + "…"
		}
	}
	return terminal.Printable(s)
}

// whole makes a text printable. Nothing that the server stores is longer.
func whole(s string) string { return bounded(s, 1000) }

func id(s string) cell           { return idLink(s, "") }
func idLink(s, href string) cell { return cell{Text: short(s), Kind: idKind(s), Href: href} }

// none is a cell without anything to show.
func none() cell { return cell{Text: "–", Kind: "dull"} }

func words(s string) cell {
	if s == "" {
		return none()
	}
	return cell{Text: short(s)}
}

// maxWord is the longest name of a machine that stays in one line of a table.
const maxWord = 16

func idKind(s string) string {
	if len(s) <= maxWord {
		return "word"
	}
	return "id"
}

func state(kind, s string) cell { return cell{Text: short(s), Kind: kind} }

// list shows the first entries of a list, and how many more there are.
func list(items []string) cell {
	const most, each = 3, 20
	if len(items) == 0 {
		return none()
	}
	var names []string
	for _, item := range items[:min(len(items), most)] {
		names = append(names, bounded(item, each))
	}
	text := strings.Join(names, ", ")
	if rest := len(items) - most; rest > 0 {
		text += ", and " + strconv.Itoa(rest) + " more"
	}
	return cell{Text: text, Kind: "long"}
}

// instant shows a time in UTC, and how far from now it is.
func instant(t *time.Time, now time.Time) cell {
	if t == nil || t.IsZero() {
		return none()
	}
	return cell{Text: t.UTC().Format("2006-01-02 15:04:05Z"), Hint: relative(t.Sub(now)), Kind: "time"}
}

// relative returns "in 3 d 4 h", "5 min ago" or "now".
func relative(d time.Duration) string {
	if d > -time.Second && d < time.Second {
		return "now"
	}
	if d < 0 {
		return span(-d) + " ago"
	}
	return "in " + span(d)
}

// span writes a duration with its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 100*day:
		return fmt.Sprintf("%d d", d/day)
	case d >= day:
		return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// size writes a number of bytes.
func size(n int64) string {
	switch {
	case n <= 0:
		return "not known"
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// plain returns the text of an error in one line, without its last dot.
func plain(err error) string { return strings.TrimSuffix(terminal.OneLine(terminal.Plain(err)), ".") }

// get asks the server for one answer.
func get[T any](r *request, s *site, path string, query url.Values) (T, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	answer, _, err := adminapi.Ask[T](r.Context(), s.server, http.MethodGet, path, nil)
	return answer, err
}

// pageRows is how many entries of a list a page shows.
const pageRows = 50

// getPage asks for the entries of a list after the parameter "after". next is what they continue after; "" if
// these are the last.
func getPage[T any](r *request, s *site, path string, name func(T) string) (list []T, next string, err error) {
	query := url.Values{"limit": {strconv.Itoa(pageRows + 1)}}
	if after := r.field("after"); after != "" {
		query.Set("after", after)
	}
	list, err = get[[]T](r, s, path, query)
	if len(list) > pageRows {
		list = list[:pageRows]
		next = name(list[pageRows-1])
	}
	return list, next, err
}

// command returns the command line that shows the same, for the same server.
func (s *site) command(words ...string) string {
	line := "keymill"
	for _, w := range append(slices.Clone(words), s.server.Flags()...) {
		line += " " + terminal.ShellWord(w)
	}
	return terminal.Printable(line) // whole: it is copied
}

// commandAbout returns the command line about an entry. A name that begins with "-" is no flag behind "--".
func (s *site) commandAbout(name string, words ...string) string {
	if strings.HasPrefix(name, "-") && !strings.HasPrefix(words[len(words)-1], "--") {
		return s.command(words...) + terminal.Printable(" -- "+terminal.ShellWord(name))
	}
	return s.command(append(slices.Clone(words), name)...)
}

// svg is an SVG of package timeline or plot, which escapes every text.
func svg(s string) template.HTML { return template.HTML(s) }
