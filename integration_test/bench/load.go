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

// A caller makes the requests of one connection, each from the body of the answer
// before it (nil at first; valid only during the call). Scenarios whose requests
// depend on answers, such as a refresh, keep their state in it.
type caller func(answer []byte) (request []byte)

// A load is a number of keep-alive connections to one server. It speaks just enough
// HTTP/1.1 by hand, because it shares the machine with what it measures: each
// microsecond here would be counted as the server's.
type load struct{ lines []*line }

// A line is one connection and what is said on it.
type line struct {
	conn   net.Conn
	reader *bufio.Reader
	call   caller
	answer []byte
}

// A slice is what one run of a load saw.
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
		l.lines = append(l.lines, &line{conn: conn, reader: bufio.NewReaderSize(conn, 16<<10), call: make()})
	}
	return l, nil
}

func (l *load) close() {
	for _, line := range l.lines {
		line.conn.Close()
	}
}

// run keeps every connection busy for d. Requests that are under way at the end are
// finished and counted, and so is their time. One wrong answer fails the run: a
// number about errors is no number.
func (l *load) run(d time.Duration) (slice, error) {
	start := time.Now()
	latencies := make([][]time.Duration, len(l.lines))
	failures := make([]error, len(l.lines))
	var all sync.WaitGroup
	for i, line := range l.lines {
		all.Go(func() { latencies[i], failures[i] = line.run(start, d) })
	}
	all.Wait()
	out := slice{elapsed: time.Since(start)}
	for _, some := range latencies {
		out.latencies = append(out.latencies, some...)
	}
	return out, errors.Join(failures...)
}

func (l *line) run(start time.Time, d time.Duration) ([]time.Duration, error) {
	if err := l.conn.SetDeadline(start.Add(d + 5*time.Minute)); err != nil {
		return nil, err
	}
	latencies := make([]time.Duration, 0, 1024)
	for begun := start; begun.Sub(start) < d; {
		if err := l.exchange(); err != nil {
			return nil, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(begun))
		begun = now
	}
	return latencies, nil
}

// exchange sends one request and reads its answer, which must be a 200.
func (l *line) exchange() error {
	if _, err := l.conn.Write(l.call(l.answer)); err != nil {
		return err
	}
	status, length, err := l.head()
	if err != nil {
		return err
	}
	if cap(l.answer) < length {
		l.answer = make([]byte, length)
	}
	l.answer = l.answer[:length]
	if _, err := io.ReadFull(l.reader, l.answer); err != nil {
		return err
	}
	if status != "200" {
		return fmt.Errorf("answer %s: %.300s", status, l.answer)
	}
	return nil
}

// head reads up to the body. Both servers always say how long that is.
func (l *line) head() (status string, length int, err error) {
	length = -1
	for first := true; ; first = false {
		text, err := l.reader.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		text = bytes.TrimRight(text, "\r\n")
		switch {
		case first:
			if len(text) < 12 || !bytes.HasPrefix(text, []byte("HTTP/1.1 ")) {
				return "", 0, fmt.Errorf("no HTTP/1.1 answer: %.100q", text)
			}
			status = string(text[9:12])
		case len(text) == 0:
			if length < 0 {
				return "", 0, errors.New("an answer without Content-Length")
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
