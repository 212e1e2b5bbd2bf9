package numbers

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// memory is that of a process, in bytes, from /proc/PID/status.
type memory struct {
	anonymous int64 // RssAnon: without the mapped store
	resident  int64 // VmRSS: all memory of the process in RAM
}

func memoryOf(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"RssAnon": &m.anonymous, "VmRSS": &m.resident}[name]
		if into == nil {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return m, err
		}
		*into = kilobytes << 10
	}
	if m.anonymous == 0 || m.resident == 0 {
		return m, fmt.Errorf("/proc/%d/status has no memory sizes", pid)
	}
	return m, nil
}

// watch reads the memory of a server many times a second. The returned function stops that and returns
// the largest values.
func watch(t *testing.T, srv *server.Server) (peak func() memory) {
	t.Helper()
	var most memory
	stop, pid := make(chan struct{}), srv.PID()
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			m, err := memoryOf(pid)
			if err != nil {
				t.Error(err)
				return
			}
			most = memory{max(most.anonymous, m.anonymous), max(most.resident, m.resident)}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() memory {
		close(stop)
		watcher.Wait()
		return most
	}
}

// leastStarts starts two servers several times, in turns, and leaves them running. It returns the least
// times, because longer ones include other work of the machine. The first start of each does not
// count, because it may generate keys.
func leastStarts(t *testing.T, a, b *server.Server) (ofA, ofB time.Duration) {
	t.Helper()
	start := func(srv *server.Server) time.Duration {
		if err := srv.Stop(); err != nil {
			t.Fatal(err)
		}
		return timeToFirstKeys(t, srv)
	}
	start(a)
	start(b)
	ofA, ofB = time.Hour, time.Hour
	for range 5 {
		ofA, ofB = min(ofA, start(a)), min(ofB, start(b))
	}
	return ofA, ofB
}

// timeToFirstKeys starts srv and returns when the first request for the key set succeeds.
func timeToFirstKeys(t *testing.T, srv *server.Server) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	answered := make(chan time.Duration, 1)
	begun := time.Now()
	go func() {
		for ctx.Err() == nil {
			if status, _, err := srv.Get(ctx, "/.well-known/jwks.json"); err == nil && status == 200 {
				answered <- time.Since(begun)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-answered:
		return d
	case <-ctx.Done():
		t.Fatal("the server did not serve a key set in 5 minutes")
		return 0
	}
}
