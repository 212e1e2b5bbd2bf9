package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed static
var static embed.FS

// A site is the handler of a console.
type site struct {
	host   string // the Host of every request
	origin string
	door   *door
	server *adminapi.Client
	pages  *template.Template
	routes map[string]route // below the secret prefix

	watchedReplays, watchedKeys *watch
	questions                   questions

	active   func()        // is called for each page that someone asked for
	patience time.Duration // how long the server may take for a page
}

// A route answers a page.
type route struct {
	method string
	page   func(*request) (*page, error)
}

func newSite(address string, server *adminapi.Client) *site {
	s := &site{host: address, origin: "http://" + address, door: newDoor(time.Now()), server: server, active: func() {}, patience: patience}
	s.watchedReplays, s.watchedKeys = newWatches()
	s.pages = template.Must(template.New("").Funcs(template.FuncMap{"short": short}).ParseFS(templates, "templates/*.html"))
	s.routes = map[string]route{
		"":             {http.MethodGet, s.overview},
		"keys":         {http.MethodGet, s.keys},
		"clients":      {http.MethodGet, s.clients},
		"client":       {http.MethodGet, s.client},
		"audiences":    {http.MethodGet, s.audiences},
		"users":        {http.MethodGet, s.users},
		"user":         {http.MethodGet, s.user},
		"sessions":     {http.MethodGet, s.sessions},
		"sessions/why": {http.MethodPost, s.why},
		"verifiers":    {http.MethodGet, s.verifiers},
		"nodes":        {http.MethodGet, s.nodes},
		"audit":        {http.MethodGet, s.audit},
		"settings":     {http.MethodGet, s.settings},
		"do":           {http.MethodPost, s.do},
	}
	for _, a := range s.actions() {
		s.routes[a.path] = route{http.MethodGet, s.asks(a)}
	}
	return s
}

// policy forbids everything that the pages do not need. No script can write HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP implements http.Handler.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	if status, problem := s.check(r); problem != "" {
		if status == http.StatusMethodNotAllowed {
			h.Set("Allow", "GET, HEAD, POST")
		}
		s.write(w, status, s.plainPage("Not answered", problem))
		return
	}
	first, rest, below := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/":
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	case r.URL.Path == "/login":
		s.login(w, r)
	case first == "static" && below:
		s.file(w, rest)
	case below && equal(first, s.door.prefix):
		s.page(w, r, rest)
	default:
		s.write(w, http.StatusNotFound, s.plainPage("Not found", "This console has no such page. Open the link of the terminal in which it runs."))
	}
}

// check refuses what no page of this console sends. It decides before any secret is compared.
func (s *site) check(r *http.Request) (status int, problem string) {
	if r.Host != s.host {
		return http.StatusMisdirectedRequest, "The console answers only at " + s.origin + "."
	}
	if len(r.RequestURI) > maxURLBytes {
		return http.StatusRequestURITooLong, "The address is too long."
	}
	from := r.Header.Get("Sec-Fetch-Site")
	own := from == "" || from == "same-origin"
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		// The link is opened from anywhere; the page behind it holds nothing.
		opened := r.URL.Path == "/login" && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
		if !own && from != "none" && !opened {
			return http.StatusForbidden, "Another site asked for this page. Open it from the console."
		}
	case http.MethodPost:
		// With Referrer-Policy no-referrer, a browser sends "null" from our own form too (Fetch, section 3.2, "append
		// a request Origin header"). Then Sec-Fetch-Site tells where it comes from; no script can set that.
		sent := r.Header["Origin"]
		exact := len(sent) == 1 && (sent[0] == s.origin || sent[0] == "null" && from == "same-origin")
		if !exact || !own {
			return http.StatusForbidden, "Another site sent this form, or a browser that does not say which. Nothing was done."
		}
	default:
		return http.StatusMethodNotAllowed, "The console answers GET, HEAD and POST."
	}
	return 0, ""
}

// login shows the form for the code and takes it. The script of the page fills it in from the fragment.
func (s *site) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.write(w, http.StatusOK, &page{Template: "login", Title: "Log in"})
		return
	}
	if problem := s.door.enter(strings.TrimSpace(r.PostFormValue("code")), time.Now()); problem != "" {
		s.write(w, http.StatusForbidden, &page{Template: "login", Title: "Log in", Problem: problem})
		return
	}
	s.active()
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.door.cookie, Path: s.base(), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, s.base(), http.StatusSeeOther)
}

// cookieName needs no port: the path of the cookie is a secret of this console.
const cookieName = "keymill-console"

// base returns the path of the first page.
func (s *site) base() string { return "/" + s.door.prefix + "/" }

// loggedIn reports whether the browser has the cookie. Another program on the same host could have set one
// of the same name, so any of them counts.
func (s *site) loggedIn(r *http.Request) bool {
	for _, c := range r.CookiesNamed(cookieName) {
		if equal(c.Value, s.door.cookie) {
			return true
		}
	}
	return false
}

// comments are left out of the scripts, to keep a page small.
var comments = regexp.MustCompile(`(?m)^//.*\n`)

// file serves a file for all pages, also without a login: it says nothing about the server.
func (s *site) file(w http.ResponseWriter, name string) {
	content, err := fs.ReadFile(static, "static/"+name)
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	if err != nil {
		s.write(w, http.StatusNotFound, s.plainPage("Not found", "This console has no such file."))
		return
	}
	w.Header().Set("Content-Type", types[path.Ext(name)])
	w.Write(comments.ReplaceAll(content, nil))
}

// patience is how long the server may take for a page. The script of a page waits longer (static/console.js).
const patience = 20 * time.Second

// page answers a page below the prefix.
func (s *site) page(w http.ResponseWriter, r *http.Request, name string) {
	if !s.loggedIn(r) {
		s.write(w, http.StatusForbidden, s.plainPage("Not logged in",
			"This browser is not logged in to this console. Open the link of the terminal in which it runs."))
		return
	}
	if !r.URL.Query().Has("auto") { // a page that renews itself keeps no console running
		s.active()
	}
	route, known := s.routes[name]
	switch {
	case !known:
		s.write(w, http.StatusNotFound, s.framed(r, &page{Title: "Not found", Problem: "This console has no such page."}))
		return
	case route.method != r.Method && (r.Method != http.MethodHead || route.method != http.MethodGet):
		w.Header().Set("Allow", strings.Replace(route.method, "GET", "GET, HEAD", 1))
		s.write(w, http.StatusMethodNotAllowed, s.framed(r, &page{Title: "Not answered", Problem: "This page does not answer " + short(r.Method) + "."}))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.patience)
	defer cancel()
	p, err := route.page(&request{Request: r.WithContext(ctx), base: s.base(), now: time.Now()})
	status := http.StatusOK
	if err != nil {
		p, status = s.failed(r, err)
	}
	switch {
	case p.To != "":
		http.Redirect(w, r, p.To, http.StatusSeeOther)
		return
	case p.Status != 0:
		status = p.Status
	}
	if p.Here == "" {
		p.Here = name
	}
	s.write(w, status, s.framed(r, p))
}

// failed returns the page for an error: a refusal of the server, or a server that does not answer.
func (s *site) failed(r *http.Request, err error) (*page, int) {
	if bad := (badInput{}); errors.As(err, &bad) {
		return &page{Title: "Not possible", Problem: bad.text}, http.StatusBadRequest
	}
	if refused := (*adminapi.Error)(nil); errors.As(err, &refused) {
		p := &page{Title: "Not possible", Problem: "The server says: " + whole(plain(refused)) + ".", Notes: hints(err)}
		if !refused.Unclear() || r.Method == http.MethodPost {
			return p, http.StatusBadRequest
		}
		p.Gone, p.Problem = true, p.Problem+" This page goes on trying."
		return p, http.StatusServiceUnavailable
	}
	then := " This page goes on trying."
	if r.Method == http.MethodPost {
		then = " Go back, and send the form again."
	}
	return &page{
		Title: "No answer", Template: "gone", Gone: true, Body: whole(s.server.Name()),
		Problem: "The server does not answer: " + whole(plain(err)) + "." + then,
	}, http.StatusServiceUnavailable
}

// plainPage returns a page without links, for a browser that is not logged in.
func (s *site) plainPage(title, problem string) *page {
	return &page{Title: title, Template: "message", Problem: problem}
}

// framed adds what every page of the console shows.
func (s *site) framed(r *http.Request, p *page) *page {
	p.Base, p.Nav = s.base(), navigation
	if p.Template == "" {
		p.Template = "message"
	}
	query := r.URL.Query()
	query.Del("auto")
	if r.Method == http.MethodGet {
		p.Done = s.questions.note(query.Get("done"), time.Now())
	}
	still := query.Has("still")
	if r.Method == http.MethodGet && (p.Gone || p.Live && !still) {
		query.Set("auto", "1")
		p.Again = s.base() + p.Here + "?" + query.Encode()
		query.Del("auto")
	}
	if p.Live && still {
		query.Del("still")
		p.Still = link{s.base() + p.Here + "?" + query.Encode(), "Renew this page every five seconds"}
	} else if p.Live && p.Template != "audit" { // it has a link of its own
		query.Set("still", "1")
		p.Still = link{s.base() + p.Here + "?" + query.Encode(), "Stop renewing this page"}
	}
	return p
}

// write renders a page. It is rendered whole before the first byte is sent.
func (s *site) write(w http.ResponseWriter, status int, p *page) {
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, "page", p); err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}
