package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// A caller returns the next request of one connection. It gets the body of the answer before,
// which is nil at first and valid only during the call. Scenarios whose requests depend on
// answers, such as a refresh, keep their state in it.
type caller func(answer []byte) (request []byte)

// A load is a number of keep-alive connections to one server. It has its own small HTTP/1.1
// client, because it shares the machine with the server: each microsecond that it uses counts
// as the server's.
type load struct{ connections []*connection }

// A connection sends one request after the other.
type connection struct {
	conn   net.Conn
	reader *bufio.Reader
	call   caller
	answer []byte
}

// A slice is the result of one run of a load.
type slice struct {
	elapsed   time.Duration
	latencies []time.Duration
}

func (s slice) perSecond() float64 { return float64(len(s.latencies)) / s.elapsed.Seconds() }

func dial(address string, connections int, make func() caller) (*load, error) {
	l := &load{}
	for range connections {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			l.close()
			return nil, err
		}
		l.connections = append(l.connections, &connection{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10), call: make()})
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.connections {
		c.conn.Close()
	}
}

// run keeps every connection busy for d. It finishes and counts the requests that are in
// flight at the end, and their time. One wrong answer fails the run, because the speed of
// errors means nothing.
func (l *load) run(d time.Duration) (slice, error) {
	start := time.Now()
	latencies := make([][]time.Duration, len(l.connections))
	failures := make([]error, len(l.connections))
	var all sync.WaitGroup
	for i, c := range l.connections {
		all.Go(func() { latencies[i], failures[i] = c.run(start, d) })
	}
	all.Wait()
	out := slice{elapsed: time.Since(start)}
	for _, some := range latencies {
		out.latencies = append(out.latencies, some...)
	}
	return out, errors.Join(failures...)
}

func (c *connection) run(start time.Time, d time.Duration) ([]time.Duration, error) {
	if err := c.conn.SetDeadline(start.Add(d + 5*time.Minute)); err != nil {
		return nil, err
	}
	latencies := make([]time.Duration, 0, 1024)
	for begun := start; begun.Sub(start) < d; {
		if err := c.exchange(); err != nil {
			return nil, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(begun))
		begun = now
	}
	return latencies, nil
}

// exchange sends one request and reads the answer, which must be a 200, or a 304 without a body.
func (c *connection) exchange() error {
	if _, err := c.conn.Write(c.call(c.answer)); err != nil {
		return err
	}
	status, length, err := c.head()
	if err != nil {
		return err
	}
	if cap(c.answer) < length {
		c.answer = make([]byte, length)
	}
	c.answer = c.answer[:length]
	if _, err := io.ReadFull(c.reader, c.answer); err != nil {
		return err
	}
	if status != "200" && status != "304" {
		return fmt.Errorf("status %s: %.300s", status, c.answer)
	}
	return nil
}

// head reads up to the body. Both servers always send Content-Length, except with a 304.
func (c *connection) head() (status string, length int, err error) {
	length = -1
	for first := true; ; first = false {
		text, err := c.reader.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		text = bytes.TrimRight(text, "\r\n")
		switch {
		case first:
			if len(text) < 12 || !bytes.HasPrefix(text, []byte("HTTP/1.1 ")) {
				return "", 0, fmt.Errorf("the answer is not HTTP/1.1: %.100q", text)
			}
			if status = string(text[9:12]); status == "304" {
				length = 0
			}
		case len(text) == 0:
			if length < 0 {
				return "", 0, errors.New("the answer has no Content-Length")
			}
			return status, length, nil
		default:
			if value, ok := bytes.CutPrefix(text, []byte("Content-Length: ")); ok {
				if length, err = strconv.Atoi(string(value)); err != nil {
					return "", 0, err
				}
			}
		}
	}
}
