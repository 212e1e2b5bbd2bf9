package serve

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A faultyWriter blocks while it is stuck and fails while fault is set.
type faultyWriter struct {
	mu    sync.Mutex
	text  strings.Builder
	fault error
	short int           // with a fault: how many bytes are written
	stuck chan struct{} // nil: writes do not block
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if w.stuck != nil {
		<-w.stuck
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault != nil {
		n := min(w.short, len(p))
		w.text.Write(p[:n])
		return n, w.fault
	}
	return w.text.Write(p)
}

func (w *faultyWriter) fail(err error, short int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault, w.short = err, short
}

func (w *faultyWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func testQueue(w io.Writer) *logQueue {
	return newLogQueue(w, func(lost int64) []byte { return fmt.Appendf(nil, "%d lost\n", lost) })
}

// numbered returns the lines from first to last.
func numbered(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// writeLines writes these lines to q. The buffer is reused, as slog does.
func writeLines(t *testing.T, q *logQueue, first, last int) {
	t.Helper()
	var p []byte
	for i := first; i <= last; i++ {
		p = fmt.Appendf(p[:0], "line %d\n", i)
		if n, err := q.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
}

// TestEveryLineIsWrittenInItsOrder, and a normal end takes no time and loses nothing.
func TestEveryLineIsWrittenInItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w faultyWriter
		q := testQueue(&w)
		for i := range 5 {
			writeLines(t, q, i*maxLogLines+1, (i+1)*maxLogLines)
			if i < 4 {
				synctest.Wait()
			}
		}
		began := time.Now()
		q.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("the end takes %v", took)
		}
		if got, want := w.String(), numbered(1, 5*maxLogLines); got != want {
			t.Errorf("%d bytes were written, want %d", len(got), len(want))
		}
		q.Close()
	})
}

// TestAStuckLogBlocksNoOneAndIsReported: the lines that fit are written later, and one line in
// the place of the others says how many they are.
func TestAStuckLogBlocksNoOneAndIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := faultyWriter{stuck: make(chan struct{})}
		q := testQueue(&w)
		writeLines(t, q, 1, 1)
		synctest.Wait() // the goroutine holds it
		began := time.Now()
		writeLines(t, q, 2, maxLogLines+500)
		if took := time.Since(began); took != 0 || w.String() != "" {
			t.Fatalf("writing took %v, and %q was written", took, w.String())
		}
		w.stuck <- struct{}{} // one place becomes free
		synctest.Wait()
		writeLines(t, q, 9001, 9003) // the first of them takes it
		close(w.stuck)
		synctest.Wait()
		want := numbered(1, maxLogLines+1) + "499 lost\n" + numbered(9001, 9001) + "2 lost\n"
		if got := w.String(); got != want {
			t.Errorf("written: …%s", got[max(0, len(got)-200):])
		}
		writeLines(t, q, 9004, 9004)
		q.Close()
		if got := w.String(); got != want+numbered(9004, 9004) {
			t.Errorf("later: …%s", got[max(0, len(got)-200):])
		}
		if n := q.all.Load(); n != 499+2 {
			t.Errorf("%d lines are counted as dropped since the start", n)
		}
	})
}

// TestAFailingLogIsReportedWhenItWorksAgain, whatever the fault and however much was written.
func TestAFailingLogIsReportedWhenItWorksAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault error
		short int
		want  string // of what was written while it failed
	}{
		{"no reader", syscall.EPIPE, 0, ""},
		{"disk full", syscall.ENOSPC, 0, ""},
		{"closed", syscall.EBADF, 0, ""},
		{"not ready", syscall.EAGAIN, 0, ""},
		{"disk full within a line", syscall.ENOSPC, 3, "lin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w faultyWriter
				q := testQueue(&w)
				writeLines(t, q, 1, 2)
				synctest.Wait()
				w.fail(tt.fault, tt.short)
				writeLines(t, q, 3, 3)
				synctest.Wait()
				w.fail(tt.fault, 0)
				writeLines(t, q, 4, 7)
				synctest.Wait()
				w.fail(nil, 0)
				writeLines(t, q, 8, 9)
				q.Close()
				torn := tt.want
				if torn != "" {
					torn += "\n"
				}
				if got, want := w.String(), numbered(1, 2)+torn+"5 lost\n"+numbered(8, 9); got != want {
					t.Errorf("written:\n%s\nwant:\n%s", got, want)
				}
				if n := q.all.Load(); n != 5 {
					t.Errorf("%d lines are counted as dropped since the start", n)
				}
			})
		})
	}
}

// TestTheEndReportsWhatIsNotReportedYet.
func TestTheEndReportsWhatIsNotReportedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := faultyWriter{fault: errors.New("full")}
		q := testQueue(&w)
		writeLines(t, q, 1, 3)
		synctest.Wait()
		w.fail(nil, 0)
		q.Close()
		if got := w.String(); got != "3 lost\n" {
			t.Errorf("written: %q", got)
		}
	})
}

// TestTheEndWaitsForAStuckLogOnlySoLong, and several callers can wait.
func TestTheEndWaitsForAStuckLogOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := faultyWriter{stuck: make(chan struct{})}
		q := testQueue(&w)
		writeLines(t, q, 1, 10)
		began := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(q.Close)
		}
		all.Wait()
		if took := time.Since(began); took != flushTime {
			t.Errorf("the end takes %v, want %v", took, flushTime)
		}
		writeLines(t, q, 11, 3*maxLogLines) // blocks and panics no later caller
		close(w.stuck)
	})
}

// TestTheReportHasTheFormOfTheLog and is visible at every level.
func TestTheReportHasTheFormOfTheLog(t *testing.T) {
	for format, want := range map[string]string{
		"text": `level=ERROR msg="log lines were dropped, because the log could not be written" lines=1` + "\n",
		"json": `"level":"ERROR","msg":"log lines were dropped, because the log could not be written","lines":1}` + "\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			w := faultyWriter{fault: syscall.EPIPE}
			log, queue := newLog(format, slog.LevelError, &w)
			log.Warn("not logged at this level")
			log.Error("lost")
			synctest.Wait()
			w.fail(nil, 0)
			log.Error("written")
			queue.Close()
			lines := strings.SplitAfter(w.String(), "\n")
			if len(lines) != 3 || !strings.HasSuffix(lines[0], want) || !strings.Contains(lines[1], "written") {
				t.Errorf("%s: %q", format, lines)
			}
		})
	}
}

// TestASureLineIsWrittenOrGivenBack: between the lines of the log, it is never dropped or counted as lost, and its
// writer learns of each fault.
func TestASureLineIsWrittenOrGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w faultyWriter
		q := testQueue(&w)
		to := sureLines{q}
		writeLines(t, q, 1, 1)
		if n, err := to.Write([][]byte{[]byte("a"), []byte("b")}); n != 2 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		w.fail(syscall.ENOSPC, 1)
		if n, err := to.Write([][]byte{[]byte("c")}); n != 0 || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: %d, %v", n, err)
		}
		w.fail(nil, 0)
		if n, err := to.Write([][]byte{[]byte("c")}); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		w.stuck = make(chan struct{})
		done := make(chan error, 1)
		writeLines(t, q, 2, maxLogLines+2) // the queue is full
		go func() {
			_, err := to.Write([][]byte{[]byte("d")})
			done <- err
		}()
		synctest.Wait()
		close(w.stuck)
		if err := <-done; err != nil {
			t.Error(err)
		}
		q.Close()
		if n, err := to.Write([][]byte{[]byte("e")}); n != 0 || err == nil {
			t.Errorf("after the end: %d, %v", n, err)
		}
		if got, want := w.String(), "line 1\na\nb\nc\nc\n"+numbered(2, maxLogLines+2)+"d\n"; got != want {
			t.Errorf("written: %.40q …%s", got, got[max(0, len(got)-60):])
		}
	})
}
