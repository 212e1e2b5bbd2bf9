package collector

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
)

// failsafe only bounds a hang.
const failsafe = 2 * time.Minute

const mib = 1 << 20

// TestTheHeapIsAtMostTwiceWhatIsAliveAnd24MiB, and at most 32 MiB if next to nothing is alive.
func TestTheHeapIsAtMostTwiceWhatIsAliveAnd24MiB(t *testing.T) {
	before := math.MaxInt
	for alive := uint64(0); alive < 1<<42; alive = alive*5/4 + mib/4 {
		percent := percentFor(alive)
		if percent < least || percent > most || percent > before {
			t.Errorf("%d bytes alive: %d %%, after %d %% for less", alive, percent, before)
		}
		before = percent
		smallest := uint64(4*mib) * uint64(percent) / 100 // the smallest heap of Go with that percentage
		heap := max(smallest, alive+alive*uint64(percent)/100)
		if heap > max(32*mib, 2*alive+24*mib) {
			t.Errorf("%d bytes alive: the heap grows to %d bytes", alive, heap)
		}
		if percent < most && heap < 2*alive+24*mib-alive/50 {
			t.Errorf("%d bytes alive: the heap grows to %d bytes only", alive, heap)
		}
	}
	for alive, want := range map[uint64]int{0: most, 3 * mib: most, 6 * mib: 500, 24 * mib: 200, 240 * mib: 110, math.MaxUint64: least} {
		if got := percentFor(alive); got != want {
			t.Errorf("%d bytes alive: %d %%, want %d %%", alive, got, want)
		}
	}
}

func percent() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// collect runs the collector until the percentage is within bounds.
func collect(t *testing.T, from, to int) {
	t.Helper()
	for end := time.Now().Add(failsafe); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if p := percent(); from <= p && p <= to {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the percentage is %d, want %d to %d", percent(), from, to)
		}
	}
}

// TestThePercentageFollowsWhatIsAlive when the heap grows and when it shrinks, again and again, until stop.
func TestThePercentageFollowsWhatIsAlive(t *testing.T) {
	withoutVariables(t)
	original := percent()
	stop := Follow()
	for range 3 {
		large := make([]byte, 96*mib)
		collect(t, 110, 130)
		runtime.KeepAlive(large)
		large = nil
		collect(t, 500, most)
	}
	stop()
	if percent() != original {
		t.Errorf("after stop the percentage is %d, want %d", percent(), original)
	}
	large := make([]byte, 96*mib)
	for range 10 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	runtime.KeepAlive(large)
	if percent() != original {
		t.Errorf("some time after stop the percentage is %d, want %d", percent(), original)
	}
}

func withoutVariables(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv(name, "") // so that it is restored
		os.Unsetenv(name)
	}
}

// TestAHeapThatJumpsStaysBounded while the percentage of the small heap is still in force.
func TestAHeapThatJumpsStaysBounded(t *testing.T) {
	withoutVariables(t)
	f := start()
	defer f.stop()
	for percent() != most {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	f.mu.Lock() // so that it is not set again
	defer f.mu.Unlock()
	large := make([]byte, 40*mib)
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	largest := uint64(0)
	for n := range 400 * mib / 4096 {
		garbage := make([]byte, 4096+n%2) // of a size that is not constant, so not on the stack
		if n%64 == 0 {
			metrics.Read(heap)
			largest = max(largest, heap[0].Value.Uint64())
		}
		runtime.KeepAlive(garbage)
	}
	runtime.KeepAlive(large)
	if largest > 96*mib {
		t.Errorf("the heap grew to %d MiB", largest/mib)
	}
}

// TestVariablesOfTheEnvironmentWin: the runtime reads them at its start, so the test runs as a process of its own.
func TestVariablesOfTheEnvironmentWin(t *testing.T) {
	const child = "COLLECTOR_TEST_CHILD"
	if os.Getenv(child) != "" {
		defer Follow()()
		large := make([]byte, 40*mib)
		for range 20 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		runtime.KeepAlive(large)
		fmt.Printf("\n%d %d\n", percent(), debug.SetMemoryLimit(-1))
		return
	}
	withoutVariables(t)
	for variable, want := range map[string]string{
		"GOGC=37":         fmt.Sprintf("\n37 %d\n", math.MaxInt64),
		"GOMEMLIMIT=1GiB": fmt.Sprintf("\n100 %d\n", 1<<30),
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestVariablesOfTheEnvironmentWin$")
		cmd.Env = append(os.Environ(), child+"=1", variable)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s, want%s", variable, err, out, want)
		}
	}
}
