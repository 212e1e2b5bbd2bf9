package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// devtools speaks the DevTools protocol over the pipes of --remote-debugging-pipe: JSON messages
// that end with a zero byte. It sends calls and reads answers. It skips events, because the
// tests poll.
type devtools struct {
	out    *os.File
	closed chan struct{} // closed when the browser has closed its end

	mu      sync.Mutex // guards the fields below and writes to out
	last    int
	waiting map[int]chan answer // id → the call that waits for it
}

// An answer is a message of the browser. An event has a Method.
type answer struct {
	ID     int
	Method string
	Result json.RawMessage
	Error  *struct{ Message string }
}

func newDevtools(in io.Reader, out *os.File) *devtools {
	d := &devtools{out: out, closed: make(chan struct{}), waiting: map[int]chan answer{}}
	go d.read(bufio.NewReader(in))
	return d
}

// read hands every answer to the call that waits for it, until the browser is gone.
func (d *devtools) read(in *bufio.Reader) {
	defer close(d.closed)
	for {
		line, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if json.Unmarshal(line[:len(line)-1], &a) != nil || a.Method != "" {
			continue
		}
		d.mu.Lock()
		waiter := d.waiting[a.ID]
		delete(d.waiting, a.ID)
		d.mu.Unlock()
		if waiter != nil {
			waiter <- a
		}
	}
}

// object is a JSON object to send.
type object map[string]any

// call calls a method of a DevTools session ("" is the browser itself) and decodes the answer
// into result, unless that is nil.
func (d *devtools) call(ctx context.Context, session, method string, params object, result any) error {
	waiter, err := d.send(session, method, params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a := <-waiter:
		if a.Error != nil {
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-d.closed:
		return fmt.Errorf("%s: %w", method, errGone)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

var errGone = errors.New("the browser is gone")

func (d *devtools) send(session, method string, params object) (<-chan answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	message := object{"id": d.last, "method": method, "params": params}
	if session != "" {
		message["sessionId"] = session
	}
	b, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	waiter := make(chan answer, 1)
	d.waiting[d.last] = waiter
	_, err = d.out.Write(append(b, 0))
	return waiter, err
}
