package main

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestDamageWhileServingEndsTheProcess with one line and an exit code, whatever became of the file.
//
// I28.
func TestDamageWhileServingEndsTheProcess(t *testing.T) {
	t.Parallel()
	page := int64(os.Getpagesize())
	for name, damage := range map[string]func(f *os.File) error{
		"the pages are zeros":       func(f *os.File) error { _, err := f.WriteAt(make([]byte, 60*page), 2*page); return err },
		"both meta pages are zeros": func(f *os.File) error { _, err := f.WriteAt(make([]byte, 2*page), 0); return err },
		"the pages are ones": func(f *os.File) error {
			_, err := f.WriteAt([]byte(strings.Repeat("\xff", int(60*page))), 2*page)
			return err
		},
		"the file is cut off": func(f *os.File) error { return f.Truncate(2 * page) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := p.start()
			f, err := os.OpenFile(p.store(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := damage(f); err != nil {
				t.Fatal(err)
			}
			status, _, err := requestToken(http.DefaultClient, c.address, "billing", "secret")
			if err == nil && status == http.StatusOK {
				t.Errorf("status %d", status)
			}
			if code := c.wait(failsafe); code != 1 {
				t.Errorf("exit code %d", code)
			}
			log := c.errs.String()
			if !strings.Contains(log, "keymill: the store is damaged: ") && !strings.Contains(log, "did not stop in time") {
				t.Errorf("no line says what is wrong:\n%s", log)
			}
			if !strings.Contains(log, "the store failed") || strings.Contains(log, "panic: ") || strings.Contains(log, "goroutine ") {
				t.Errorf("the log is:\n%s", log)
			}
			_, errs, code := p.run(p.serveArgs()...)
			if code != 1 || !strings.HasPrefix(errs, "keymill: open store ") || strings.Count(errs, "\n") > 2 {
				t.Errorf("the next start: code %d\n%s", code, errs)
			}
		})
	}
}

// TestAStopOfADamagedServerEnds: the records of the stop cannot be written.
func TestAStopOfADamagedServerEnds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	page := int64(os.Getpagesize())
	f, err := os.OpenFile(p.store(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 60*page), 2*page); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if log := c.errs.String(); strings.Contains(log, "panic: ") || strings.Contains(log, "goroutine ") {
		t.Errorf("the log is:\n%s", log)
	}
}
