package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// consolePages are the pages of the console in the order of their links.
var consolePages = []string{"Overview", "Keys", "Verifiers", "Clients", "Audiences", "Users", "Sessions", "Nodes", "Audit", "Settings"}

// TestTheConsoleInABrowser walks through all pages of keymill console with the keyboard alone, in light and dark, on a
// narrow screen, and logs in without script. With KEYMILL_SCREENSHOTS=DIR it leaves pictures there.
func TestTheConsoleInABrowser(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile(filepath.Join("page", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		missing(t, "axe-core")
	}
	srv := server.Start(t, server.Options{Config: server.WebConfig})
	token := populate(t, srv)
	b := startBrowser(t, "")
	t.Run("TheLinkLogsInOnce", func(t *testing.T) {
		link := startConsole(t, srv)
		p := b.newProfile(t)
		first := p.visit(t, link)
		first.heading(t, "Overview")
		var hash string
		first.eval(t, `location.hash + document.referrer + document.cookie`, &hash)
		if hash != "" {
			t.Errorf("a script of the page can read %q", hash)
		}
		if jar := p.cookies(t); len(jar) != 1 || jar[0].SameSite != "Strict" || !jar[0].HTTPOnly || !jar[0].Session {
			t.Errorf("the jar holds %+v", jar)
		}
		b.newProfile(t).visit(t, link).text(t, "This link was used already")
	})
	t.Run("TheFileOfOpen", func(t *testing.T) {
		link := startConsole(t, srv)
		file := filepath.Join(t.TempDir(), "open.html") // as --open writes it; root cannot use --open
		if err := os.WriteFile(file, []byte(`<!doctype html><meta http-equiv="refresh" content="0;url=`+link+`">`), 0o600); err != nil {
			t.Fatal(err)
		}
		tab := b.newProfile(t).visit(t, "file://"+file)
		tab.heading(t, "Overview")
		_, code, _ := strings.Cut(link, "#")
		var history struct{ Entries []struct{ URL string } }
		tab.browser.must(t, tab.session, "Page.getNavigationHistory", nil, &history)
		for _, e := range history.Entries {
			if strings.Contains(e.URL, code) {
				t.Errorf("the history has the code: %s", e.URL)
			}
		}
		keeps(t, tab)
	})
	t.Run("WithoutScript", func(t *testing.T) { withoutScript(t, b, startConsole(t, srv)) })
	t.Run("EveryPage", func(t *testing.T) {
		tab := b.newProfile(t).visit(t, startConsole(t, srv))
		tab.heading(t, "Overview")
		tab.until(t, `document.querySelector("a[href*='action=session.replay']").textContent === "1"`)
		for i, page := range consolePages {
			tab.walkTo(t, page)
			for _, scheme := range []string{"light", "dark"} {
				tab.media(t, scheme)
				tab.accessible(t, string(axe), page+" "+scheme)
				tab.shot(t, fmt.Sprintf("%d-%s-%s", i, strings.ToLower(page), scheme))
			}
			tab.media(t, "light")
			tab.fast(t, page)
			tab.narrow(t, page)
			tab.shot(t, fmt.Sprintf("%d-%s-narrow", i, strings.ToLower(page)))
			tab.call(t, "Emulation.clearDeviceMetricsOverride", object{})
		}
		explain(t, tab, "kmr_not-a-token", "refused")
		explain(t, tab, token, "accepted")
		tab.accessible(t, string(axe), "Why")
		findUser(t, tab)
		tab.accessible(t, string(axe), "a user")
		tab.shot(t, "9-user")
		live(t, tab, srv)
	})
	t.Run("EveryButton", func(t *testing.T) {
		tab := b.newProfile(t).visit(t, startConsole(t, srv))
		tab.heading(t, "Overview")
		everyButton(t, tab, string(axe), srv)
	})
}

// populate adds what the pages show, with a session that a replay has ended and one that is live. It returns the
// refresh token of the second.
func populate(t *testing.T, srv *server.Server) (token string) {
	t.Helper()
	srv.AddWeb(t)
	srv.Run(t, "verifier", "add", "orders-api")
	srv.Run(t, "audience", "add", strings.Repeat("very-long-name.", 13))
	srv.Run(t, "client", "add", "billing", "--grant", "client_credentials", "--audience", audience)
	srv.Run(t, "client", "disable", "billing")
	stolen := logIn(t, srv)
	for _, presented := range []string{stolen, "", stolen} { // the third is a replay
		if presented == "" {
			presented = token
		}
		a, err := srv.Refresh(t.Context(), server.Web, presented)
		if err != nil {
			t.Fatal(err)
		}
		token = a.Field("refresh_token")
	}
	token = logIn(t, srv)
	users := "id,username,password,is_active\n"
	for n := range counts.Of("console-clients") {
		srv.Run(t, "client", "add", fmt.Sprintf("client-%d", n), "--grant", "client_credentials", "--audience", audience)
	}
	for n := range counts.Of("console-users") {
		users += fmt.Sprintf("%d,person-%d@example.com,!,1\n", n+1000, n)
	}
	file := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Run(t, "user", "import", file)
	var keys []struct{ KID, Alg, Stage string }
	srv.RunJSON(t, &keys, "key", "list")
	for _, k := range keys {
		if k.Alg == "RS256" && k.Stage == "active" {
			srv.Run(t, "key", "revoke", k.KID)
		}
	}
	return token
}

func logIn(t *testing.T, srv *server.Server) string {
	t.Helper()
	token, err := srv.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// startConsole runs keymill console until the test ends, and returns its link.
func startConsole(t *testing.T, srv *server.Server) string {
	t.Helper()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "console", "--data", srv.Data)
	cmd.Env = server.Environment()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the console ended with %v", err)
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if link := strings.TrimSpace(lines.Text()); strings.HasPrefix(link, "http://127.0.0.1:") {
			return link
		}
	}
	t.Fatal("the console printed no link")
	return ""
}

// visit opens a tab and does not wait for its page.
func (p *profile) visit(t *testing.T, url string) *tab {
	t.Helper()
	var target struct{ TargetID string }
	p.browser.must(t, "", "Target.createTarget", object{"url": url, "browserContextId": p.context, "width": 1280, "height": 900}, &target)
	var attached struct{ SessionID string }
	p.browser.must(t, "", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &attached)
	return &tab{p.browser, attached.SessionID}
}

func (tab *tab) call(t *testing.T, method string, params object) {
	t.Helper()
	tab.browser.must(t, tab.session, method, params, nil)
}

// until waits for script to be true. The document can be replaced in the meantime.
func (tab *tab) until(t *testing.T, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		var done bool
		if err := tab.try(ctx, script, &done); err == nil && done {
			return
		}
		select {
		case <-ctx.Done():
			var page string
			tab.eval(t, `location.href + "\n" + document.documentElement.outerHTML`, &page)
			t.Fatalf("%s does not become true on\n%s", script, page)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// heading waits for a page, complete with style and script.
func (tab *tab) heading(t *testing.T, heading string) {
	t.Helper()
	tab.until(t, `document.readyState === "complete" && document.querySelector("h1")?.textContent === `+quote(heading))
}

func (tab *tab) text(t *testing.T, text string) {
	t.Helper()
	tab.until(t, `document.body.textContent.includes(`+quote(text)+`)`)
}

// key presses a key as a keyboard does.
func (tab *tab) key(t *testing.T, key, text string) {
	t.Helper()
	code := map[string]int{"Tab": 9, "Enter": 13}[key]
	for _, kind := range []string{"keyDown", "keyUp"} {
		event := object{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
		if kind == "keyDown" {
			event["text"] = text
		}
		tab.call(t, "Input.dispatchKeyEvent", event)
	}
}

// walkTo goes to a page with Tab and Enter alone, and checks that the focus can be seen on the way.
func (tab *tab) walkTo(t *testing.T, page string) {
	t.Helper()
	tab.do(t, `document.activeElement.blur()`)
	for range 3 + len(consolePages) {
		tab.key(t, "Tab", "")
		var at struct{ Text, Outline, Box string }
		tab.eval(t, `(() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();
			return {text: e.textContent, outline: s.outlineStyle, box: b.left >= 0 && b.top >= 0 && b.width > 0 ? "seen" : "hidden"} })()`, &at)
		if at.Outline == "none" || at.Box != "seen" {
			t.Errorf("the focus on %q cannot be seen: %+v", at.Text, at)
		}
		if at.Text == page {
			tab.do(t, `document.documentElement.dataset.old = "yes"`)
			tab.key(t, "Enter", "\r")
			tab.until(t, `!document.documentElement.dataset.old`)
			tab.heading(t, page)
			tab.until(t, `document.querySelector("nav a[aria-current]")?.textContent === `+quote(page))
			return
		}
	}
	t.Fatalf("the keyboard does not reach %s", page)
}

func (tab *tab) media(t *testing.T, scheme string) {
	t.Helper()
	tab.call(t, "Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}})
}

// accessible runs axe-core with the rules of WCAG 2.2 AA and its best practices.
func (tab *tab) accessible(t *testing.T, axe, what string) {
	t.Helper()
	var loaded bool
	if tab.eval(t, `typeof axe === "object"`, &loaded); !loaded {
		tab.eval(t, axe+"; null", new(any))
	}
	var faults []string
	tab.eval(t, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => v.id + ": " + v.help + "\n" +
		v.nodes.map(n => "  " + n.html.slice(0, 200) + " " + n.failureSummary).slice(0, 3).join("\n")))`, &faults)
	for _, fault := range faults {
		t.Errorf("%s: %s", what, fault)
	}
}

// fast loads the page again, and takes the fastest of five answers: a machine can be busy.
func (tab *tab) fast(t *testing.T, what string) {
	t.Helper()
	const limit = 100 // milliseconds
	var took float64
	tab.eval(t, `(async () => {
		let fastest = Infinity;
		for (let n = 0; n < 5; n++) {
			const begin = performance.now();
			await (await fetch(location.href)).text();
			fastest = Math.min(fastest, performance.now() - begin);
		}
		return fastest;
	})()`, &took)
	t.Logf("counted: the page %s in %.0f ms", what, took)
	if took > limit {
		t.Errorf("the page %s takes %.0f ms, at most %d", what, took, limit)
	}
}

// narrow shows the page 320 pixels wide (WCAG 2.2, 1.4.10).
func (tab *tab) narrow(t *testing.T, what string) {
	t.Helper()
	tab.call(t, "Emulation.setDeviceMetricsOverride", object{"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": false})
	var width int
	tab.eval(t, `document.documentElement.scrollWidth`, &width)
	if width > 320 {
		t.Errorf("%s is %d pixels wide on a screen of 320", what, width)
	}
}

// shot takes a picture of the whole page if pictures are wanted.
func (tab *tab) shot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("KEYMILL_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	tab.browser.must(t, tab.session, "Page.captureScreenshot", object{"format": "png", "captureBeyondViewport": true}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// explain asks what the server would answer to a token. The token is in no address and not on the page.
func explain(t *testing.T, tab *tab, token, answer string) {
	t.Helper()
	tab.walkTo(t, "Sessions")
	tab.do(t, `document.querySelector("input[name=token]").focus()`)
	tab.call(t, "Input.insertText", object{"text": token})
	tab.key(t, "Enter", "\r")
	tab.heading(t, "Why")
	tab.text(t, answer)
	var page string
	tab.eval(t, `location.href + document.documentElement.outerHTML`, &page)
	if strings.Contains(page, token) {
		t.Errorf("the page has the token:\n%s", page)
	}
}

// findUser types the name of a user into the form.
func findUser(t *testing.T, tab *tab) {
	t.Helper()
	tab.walkTo(t, "Users")
	tab.do(t, `document.querySelector("input[name=user]").focus()`)
	tab.call(t, "Input.insertText", object{"text": server.Person})
	tab.key(t, "Enter", "\r")
	tab.heading(t, "User "+server.Person)
}

// live shows new records without a reload, and no script breaks the Content-Security-Policy.
func live(t *testing.T, tab *tab, srv *server.Server) {
	t.Helper()
	tab.walkTo(t, "Audit")
	tab.do(t, `document.querySelector("a[href*='live=1']").click()`)
	tab.text(t, "Stop showing new records")
	tab.do(t, `document.documentElement.dataset.old = "yes"; document.activeElement.blur();
		addEventListener("securitypolicyviolation", (e) => { document.documentElement.dataset.violated = e.violatedDirective })`)
	srv.Run(t, "audience", "add", "brand-new")
	tab.until(t, `document.querySelector("main").textContent.includes("brand-new")`)
	tab.until(t, `document.documentElement.dataset.old === "yes" && !document.documentElement.dataset.violated`)
}

// keeps waits until a page renews itself, and checks that the focus and the place of a wide picture stay.
func keeps(t *testing.T, tab *tab) {
	t.Helper()
	tab.call(t, "Emulation.setDeviceMetricsOverride", object{"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": false})
	tab.walkTo(t, "Keys")
	tab.do(t, `document.querySelector(".picture").scrollLeft = 200; document.querySelector("main").focus(); document.querySelector("main").dataset.old = "yes"`)
	tab.until(t, `!document.querySelector("main").dataset.old`)
	var at struct {
		Left  int
		Focus string
	}
	tab.eval(t, `({left: document.querySelector(".picture").scrollLeft, focus: document.activeElement.tagName})`, &at)
	if at.Left != 200 || at.Focus != "MAIN" {
		t.Errorf("after it has renewed itself, the page is at %+v", at)
	}
}

// withoutScript pastes the code of the link into the form.
func withoutScript(t *testing.T, b *browser, link string) {
	t.Helper()
	tab := b.newProfile(t).visit(t, "about:blank")
	tab.call(t, "Emulation.setScriptExecutionDisabled", object{"value": true})
	address, code, _ := strings.Cut(link, "#")
	tab.call(t, "Page.navigate", object{"url": address})
	tab.snapshot(t, "Log in")
	tab.key(t, "Tab", "") // the link to the content
	tab.key(t, "Tab", "")
	tab.call(t, "Input.insertText", object{"text": code})
	tab.key(t, "Enter", "\r")
	tab.snapshot(t, "Overview")
}

// snapshot waits for a page whose heading is heading, without running a script in it.
func (tab *tab) snapshot(t *testing.T, heading string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var got struct{ Strings []string }
		tab.browser.must(t, tab.session, "DOMSnapshot.captureSnapshot", object{"computedStyles": []string{}}, &got)
		if slices.Contains(got.Strings, heading+" – Keymill") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no page %s: %q", heading, got.Strings)
		}
	}
}
