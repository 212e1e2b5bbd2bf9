package cluster

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAClusterShowsNoPasswordAndLeavesNothing: the list of processes, which every user of the machine sees, never has the
// password, and no process is left when the terminal closes while parts hang.
func TestAClusterShowsNoPasswordAndLeavesNothing(t *testing.T) {
	w := start(t)
	password, err := os.ReadFile(filepath.Join(w.dir, "store-password"))
	if err != nil {
		t.Fatal(err)
	}
	stop, shown := make(chan struct{}), make(chan string, 1)
	go func() { shown <- watchArguments(strings.TrimSpace(string(password)), stop) }()
	w.do(t, "failover", "start db-1") // which copies the database
	close(stop)
	if arguments := <-shown; arguments != "" {
		t.Errorf("the list of processes shows the password: %s", arguments)
	}

	w.do(t, "pause node-1", "pause db-2")
	for range 2 { // the terminal and its shell each send one
		w.process.Signal(syscall.SIGHUP)
	}
	for end := time.Now().Add(failsafe); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(w.dir); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the cluster does not end")
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if at, _ := os.Readlink(link); strings.HasPrefix(at, w.dir) { // a directory that is gone has its old name
			t.Errorf("%s is left, in %s", filepath.Dir(link), at)
		}
	}
}

// watchArguments returns the arguments of a process that have the text, or "" when stop is closed.
func watchArguments(text string, stop <-chan struct{}) string {
	for {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range files {
			if b, _ := os.ReadFile(file); bytes.Contains(b, []byte(text)) {
				return string(bytes.ReplaceAll(b, []byte{0}, []byte(" ")))
			}
		}
		select {
		case <-stop:
			return ""
		case <-time.After(5 * time.Millisecond):
		}
	}
}
