package connections

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A counted connection counts how often a deadline is set.
type counted struct {
	net.Conn
	set *atomic.Int32
}

func (c counted) SetReadDeadline(t time.Time) error { c.set.Add(1); return c.Conn.SetReadDeadline(t) }
func (c counted) SetWriteDeadline(t time.Time) error {
	c.set.Add(1)
	return c.Conn.SetWriteDeadline(t)
}

// pipe returns a conn and its other end.
func pipe(t *testing.T) (c *conn, there net.Conn, set *atomic.Int32) {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	set = new(atomic.Int32)
	return (&Listener{began: time.Now()}).newConn(counted{here, set}), there, set
}

// TestADeadlineEndsAnOperationInTime, neither earlier nor later, whatever the deadlines before it were and whenever it
// was set.
func TestADeadlineEndsAnOperationInTime(t *testing.T) {
	const none = 0
	for _, tt := range []struct {
		before, during, want time.Duration // from the begin of the operation; during is set a second after it, if not negative
	}{
		{5 * time.Second, -1, 5 * time.Second},
		{100 * time.Second, -1, 100 * time.Second},
		{5 * time.Second, 3 * time.Second, 3 * time.Second},
		{5 * time.Second, 100 * time.Second, 100 * time.Second},
		{none, 7 * time.Second, 7 * time.Second},
		{5 * time.Second, none, time.Hour}, // when the other end closes
		{none, -1, time.Hour},
	} {
		for _, write := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, there, _ := pipe(t)
				d, do := c.SetReadDeadline, c.Read
				if write {
					d, do = c.SetWriteDeadline, c.Write
				}
				buf := make([]byte, 10)
				d(time.Now().Add(2 * time.Second)) // the timer of an earlier operation
				if _, err := do(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
				began := time.Now()
				at := func(after time.Duration) time.Time {
					if after == none {
						return time.Time{}
					}
					return began.Add(after)
				}
				d(at(tt.before))
				go func() {
					if time.Sleep(time.Second); tt.during >= 0 {
						d(at(tt.during))
					}
					time.Sleep(time.Hour - time.Second)
					there.Close()
				}()
				_, err := do(buf)
				if took := time.Since(began); took != tt.want || errors.Is(err, os.ErrDeadlineExceeded) != (tt.want < time.Hour) {
					t.Errorf("%+v, write %v: it took %v, %v", tt, write, took, err)
				}
				time.Sleep(2 * time.Hour)
			})
		}
	}
}

// TestAReadIsEndedByADeadlineInThePast, also one that has not begun, and the next one reads what has come. So
// net/http ends a read that only waits for the client to hang up.
func TestAReadIsEndedByADeadlineInThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, there, _ := pipe(t)
		buf := make([]byte, 10)
		for _, begun := range []bool{true, false, true} {
			ended := make(chan error, 1)
			if begun {
				go func() { _, err := c.Read(buf); ended <- err }()
				synctest.Wait()
				c.SetReadDeadline(time.Unix(1, 0))
			} else {
				c.SetReadDeadline(time.Unix(1, 0))
				go func() { _, err := c.Read(buf); ended <- err }()
			}
			if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("begun %v: %v", begun, err)
			}
			c.SetReadDeadline(time.Time{})
			go there.Write([]byte("more"))
			if n, err := c.Read(buf); n != 4 || err != nil {
				t.Fatalf("begun %v: %d, %v", begun, n, err)
			}
		}
	})
}

// TestBytesThatTheServerWorksOnAreNotEnded, however long a busy machine takes for it: they can be a whole request, which would
// be served and not answered. When the server waits for more, they are not.
func TestBytesThatTheServerWorksOnAreNotEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, there, _ := pipe(t)
		go there.Write([]byte("GET / HTTP/1.1"))
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if c.endIf(time.Now(), (*conn).isQuiet) {
			t.Fatal("bytes that were read are ended")
		}
		go c.Read(make([]byte, 100))
		synctest.Wait()
		if !c.endIf(time.Now(), (*conn).isQuiet) {
			t.Error("a client that sends no more keeps its connection")
		}
	})
}

// TestAnEarlyTimerLosesNoByte: the timer passes while a part has been written.
func TestAnEarlyTimerLosesNoByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, there, _ := pipe(t)
		c.SetWriteDeadline(time.Now().Add(2 * time.Second))
		go c.Write([]byte("a"))
		there.Read(make([]byte, 1))
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		go func() {
			if n, err := c.Write([]byte("0123456789")); n != 10 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}()
		got := ""
		for range 10 {
			time.Sleep(time.Second)
			one := make([]byte, 1)
			n, _ := there.Read(one)
			got += string(one[:n])
		}
		if got != "0123456789" {
			t.Errorf("read %q", got)
		}
	})
}

// TestRequestsSetNoTimers: what net/http sets for each of a hundred requests in a second changes the timers of
// a connection a few times.
func TestRequestsSetNoTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, there, set := pipe(t)
		buf, in := make([]byte, 10), func(d time.Duration) time.Time { return time.Now().Add(d) }
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			c.SetReadDeadline(in(2 * time.Minute))
			go there.Write(buf)
			c.Read(buf)
			c.SetReadDeadline(in(5 * time.Second))
			c.SetReadDeadline(in(10 * time.Second))
			c.SetReadDeadline(time.Time{})
			c.SetWriteDeadline(in(30 * time.Second))
			go there.Read(buf)
			c.Write(buf)
			c.SetReadDeadline(time.Unix(1, 0))
			c.Read(buf)
			c.SetReadDeadline(time.Time{})
			c.SetWriteDeadline(time.Time{})
		}
		if n := set.Load(); n > 5 {
			t.Errorf("timers were changed %d times", n)
		}
	})
}
