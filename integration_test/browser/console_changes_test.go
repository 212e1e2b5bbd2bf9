package browser

import (
	"strings"
	"testing"

	"keymill/integration_test/server"
)

// A step presses a link or a button of the console, and says which page follows.
type step struct{ press, heading, text string }

// everyButton does each change of the console once, with the keyboard alone.
func everyButton(t *testing.T, tab *tab, axe string, srv *server.Server) {
	t.Helper()
	question := func(link, heading string) {
		t.Helper()
		tab.activate(t, link)
		tab.heading(t, heading)
		for _, scheme := range []string{"light", "dark"} {
			tab.media(t, scheme)
			tab.accessible(t, axe, heading+" "+scheme)
		}
		tab.media(t, "light")
		tab.shot(t, "change "+heading)
		tab.narrow(t, heading)
		tab.shot(t, "change "+heading+" narrow")
		tab.call(t, "Emulation.clearDeviceMetricsOverride", object{})
	}
	answer := func(typed, button, heading, text string) {
		t.Helper()
		if typed != "" {
			tab.field(t, "typed", typed)
		}
		tab.activate(t, button)
		tab.text(t, text)
		tab.heading(t, heading)
		tab.accessible(t, axe, "after "+button)
	}
	tab.walkTo(t, "Keys")
	question("Rotate EdDSA…", "Rotate EdDSA")
	answer("", "Rotate EdDSA", "Rotate EdDSA", "Nothing was done. The server says")
	question("Force it…", "Rotate EdDSA")
	answer("force", "Force the rotation", "Keys", "signs now.")
	question("Revoke a key…", "Revoke a key")
	tab.activate(t, "Go on")
	tab.text(t, "To confirm, type revoke")
	tab.accessible(t, axe, "revoke one key")
	answer("revoke", "Revoke the key", "Keys", "Revoked ")
	question("Rotate EdDSA…", "Rotate EdDSA")
	question("Flush verifiers…", "Rotate EdDSA")
	answer("flush", "Let the reserve sign", "Keys", "signs now.")

	tab.walkTo(t, "Verifiers")
	tab.field(t, "name", "new-api")
	question("Add…", "Add verifier new-api")
	answer("", "Add verifier new-api", "Add verifier new-api", "URL of its key set")
	tab.walkTo(t, "Verifiers")
	question("Remove…", "Remove verifier new-api")
	answer("new-api", "Remove verifier new-api", "Verifiers", "Removed verifier new-api.")

	tab.walkTo(t, "Clients")
	tab.activate(t, "billing")
	tab.heading(t, "Client billing")
	question("Enable…", "Enable client billing")
	answer("", "Enable client billing", "Client billing", "Enabled client billing.")
	question("Disable…", "Disable client billing")
	answer("", "Disable client billing", "Client billing", "Disabled client billing.")
	question("Rotate secret…", "Rotate the secret of billing")
	answer("", "Make a new secret", "Rotate the secret of billing", "it is not shown again")
	var secret, shown string
	tab.eval(t, `[...document.querySelectorAll("dd")].find(e => e.textContent.startsWith("kms_")).textContent`, &secret)
	tab.activate(t, "Go on")
	tab.heading(t, "Client billing")
	tab.step(t, "back")
	if tab.eval(t, `document.documentElement.outerHTML`, &shown); secret == "" || strings.Contains(shown, secret) {
		t.Errorf("going back shows the secret %q again: %s", secret, shown)
	}
	tab.step(t, "forward")
	question("End its sessions…", "End the sessions of client billing")
	answer("", "End the sessions of client billing", "Client billing", "Ended the sessions of client billing.")
	question("Remove…", "Remove client billing")
	answer("billing", "Remove client billing", "Clients", "Removed client billing.")

	tab.walkTo(t, "Sessions")
	tab.activate(t, "End…")
	tab.text(t, "The session ends")
	tab.accessible(t, axe, "end a session")
	answer("", "End session", "Sessions", "Ended session ")

	findUser(t, tab)
	person := server.Person
	for _, s := range []step{{"Disable…", "Disable user ", "Disabled user "}, {"Enable…", "Enable user ", "Enabled user "}, {"Log out…", "Log out user ", "Ended the sessions of user "}, {"Unblock…", "Unblock user ", "Unblocked user "}} {
		question(s.press, s.heading+person)
		answer("", s.heading+person, "User "+person, s.text)
	}
	question("Remove…", "Remove user "+person)
	answer(person, "Remove user "+person, "Users", "Removed user "+person+".")
	if out := srv.Run(t, "user", "list"); out == "" {
		t.Error("no user is left")
	}
}

// reach moves the focus with Tab from the content until script is true for the element e that has it.
func (tab *tab) reach(t *testing.T, script string) {
	t.Helper()
	tab.do(t, `document.querySelector("main").focus()`)
	for range 400 {
		tab.key(t, "Tab", "")
		var there bool
		if tab.eval(t, `(e => `+script+`)(document.activeElement)`, &there); there {
			return
		}
	}
	t.Fatalf("the keyboard does not reach %s", script)
}

// activate reaches a link or a button, the text of which begins with text, and presses Enter. It waits for the next page.
func (tab *tab) activate(t *testing.T, text string) {
	t.Helper()
	tab.reach(t, `["A", "BUTTON"].includes(e.tagName) && e.textContent.startsWith(`+quote(text)+`)`)
	tab.do(t, `document.documentElement.dataset.old = "yes"`)
	tab.key(t, "Enter", "\r")
	tab.until(t, `!document.documentElement.dataset.old && document.readyState === "complete"`)
}

// step goes back or forward in the history.
func (tab *tab) step(t *testing.T, way string) {
	t.Helper()
	tab.do(t, `document.documentElement.dataset.old = "yes"; setTimeout(() => history.`+way+`())`)
	tab.until(t, `!document.documentElement.dataset.old && document.readyState === "complete"`)
}

// field types into a field.
func (tab *tab) field(t *testing.T, name, text string) {
	t.Helper()
	tab.reach(t, `e.name === `+quote(name))
	tab.call(t, "Input.insertText", object{"text": text})
}
