package console

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// opener starts the browser that the user has chosen.
const opener = "xdg-open"

// openLink hands the link to xdg-open. Every user of the machine can read the arguments of a process, so the argument is
// the name of a file that only this user can read, and the link is in the file. It is removed when the link was
// used, or works no longer.
func openLink(ctx context.Context, link string, used <-chan struct{}) error {
	dir, err := os.MkdirTemp("", "keymill-console-") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "open.html")
	if err := os.WriteFile(file, []byte(openPage(link)), 0o600); err != nil {
		return err
	}
	// The browser may be a child of xdg-open, so neither Ctrl-C nor the end of the console may reach it.
	cmd := exec.Command(opener, file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KEYMILL_") })
	if err := cmd.Start(); errors.Is(err, exec.ErrNotFound) {
		return errors.New("it is not installed")
	} else if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	expired := time.After(linkTime)
	for {
		select {
		case <-used:
			return nil
		case <-ctx.Done():
			return nil
		case <-expired:
			return nil
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("it ended with %w", err)
			}
			ended = nil // it has handed the file on
		}
	}
}

// openPage returns a page that goes to the link.
func openPage(link string) string {
	link = html.EscapeString(link)
	return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Keymill</title>` +
		`<meta http-equiv="refresh" content="0;url=` + link + `"><p><a href="` + link + `">Open the console</a></p></html>` + "\n"
}
