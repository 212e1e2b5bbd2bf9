package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

// A profile has its own cookies and tabs (a browser context).
type profile struct {
	browser *browser
	context string
}

// newProfile returns a profile without cookies.
func (b *browser) newProfile(t *testing.T) *profile {
	t.Helper()
	var made struct{ BrowserContextID string }
	b.must(t, "", "Target.createBrowserContext", nil, &made)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		b.call(ctx, "", "Target.disposeBrowserContext", object{"browserContextId": made.BrowserContextID}, nil)
	})
	return &profile{b, made.BrowserContextID}
}

// A cookie is a cookie in the browser's jar.
type cookie struct {
	Name, Value, Domain, Path, SameSite string
	HTTPOnly, Secure, Session           bool
	Expires                             float64 // seconds since 1970
}

func (p *profile) cookies(t *testing.T) []cookie {
	t.Helper()
	var jar struct{ Cookies []cookie }
	p.browser.must(t, "", "Storage.getCookies", object{"browserContextId": p.context}, &jar)
	return jar.Cookies
}

// A tab shows one page.
type tab struct {
	browser *browser
	session string
}

// open opens a tab and waits until its page is idle.
func (p *profile) open(t *testing.T, url string) *tab {
	t.Helper()
	var target struct{ TargetID string }
	p.browser.must(t, "", "Target.createTarget", object{"url": url, "browserContextId": p.context}, &target)
	var attached struct{ SessionID string }
	p.browser.must(t, "", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &attached)
	tab := &tab{p.browser, attached.SessionID}
	tab.settle(t)
	return tab
}

// A state is what the page shows.
type state struct {
	Born      float64 // when the document was created; a reload changes it
	View      string  // "login" or "orders"
	Busy      bool
	Refreshes int // successful ones since the page was opened
	Answer    string
	Error     string
}

// readState evaluates to null while the page starts.
const readState = `(() => {
	const main = document.querySelector("main");
	const text = (selector) => document.querySelector(selector)?.textContent ?? "";
	return main && main.dataset.view !== "starting" && {
		born: performance.timeOrigin,
		view: main.dataset.view, busy: main.dataset.busy === "true", refreshes: +main.dataset.refreshes,
		answer: text("#answer"), error: text("#error"),
	} || null;
})()`

// state returns false while there is no state: the document is new or still starting.
func (tab *tab) state(ctx context.Context) (s state, ok bool, err error) {
	var got *state
	err = tab.try(ctx, readState, &got)
	var thrown *scriptError
	if errors.Is(err, errGone) || errors.As(err, &thrown) {
		return state{}, false, err
	}
	if err != nil || got == nil { // the document is being replaced
		return state{}, false, nil
	}
	return *got, true, nil
}

// settle waits until the page is idle and returns what it shows.
func (tab *tab) settle(t *testing.T) state {
	t.Helper()
	s, err := tab.idle(t.Context())
	if err != nil {
		var page string
		tab.eval(t, `location.href + "\n" + document.documentElement.outerHTML`, &page)
		t.Fatalf("the page does not settle: %v; it shows %+v of\n%s", err, s, page)
	}
	return s
}

func (tab *tab) idle(ctx context.Context) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var last state
	for {
		s, ok, err := tab.state(ctx)
		if err != nil {
			return last, err
		}
		if ok {
			last = s
			if !s.Busy {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// do runs script and ignores its value.
func (tab *tab) do(t *testing.T, script string) { tab.eval(t, script+"; null", new(any)) }

func (tab *tab) click(t *testing.T, selector string) {
	t.Helper()
	tab.do(t, fmt.Sprintf("document.querySelector(%q).click()", selector))
}

// eval runs script, awaits its value if that is a promise, and decodes it.
func (tab *tab) eval(t *testing.T, script string, value any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	if err := tab.try(ctx, script, value); err != nil {
		t.Fatalf("%v\nin %s", err, script)
	}
}

// A scriptError is what a script threw.
type scriptError struct{ text string }

func (e *scriptError) Error() string { return "the script threw " + e.text }

func (tab *tab) try(ctx context.Context, script string, value any) error {
	var got struct {
		Result struct {
			Value       json.RawMessage
			Description string
		}
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err := tab.browser.call(ctx, tab.session, "Runtime.evaluate",
		object{"expression": script, "awaitPromise": true, "returnByValue": true}, &got)
	if err != nil {
		return err
	}
	if e := got.ExceptionDetails; e != nil {
		return &scriptError{e.Text + " " + e.Exception.Description}
	}
	if got.Result.Value == nil {
		return nil // undefined
	}
	return json.Unmarshal(got.Result.Value, value)
}
