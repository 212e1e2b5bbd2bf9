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

// devtools speaks the DevTools protocol over the pipes of --remote-debugging-pipe:
// JSON, each message ended by a zero byte. It asks and reads answers; events are
// skipped, since a driver that looks again misses nothing.
type devtools struct {
	out    *os.File
	closed chan struct{} // once the browser has closed its end

	mu      sync.Mutex // guards what follows, and writing to out
	last    int
	waiting map[int]chan answer // id → who asked
}

// An answer is a message of the browser; Method is set if it is an event instead.
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

// read hands every answer to who asked, until the browser is gone.
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
		asker := d.waiting[a.ID]
		delete(d.waiting, a.ID)
		d.mu.Unlock()
		if asker != nil {
			asker <- a
		}
	}
}

// object is a JSON object on its way out.
type object map[string]any

// call asks one thing of a session ("" for the browser itself) and decodes the answer
// into result, unless that is nil.
func (d *devtools) call(ctx context.Context, session, method string, params object, result any) error {
	asker, err := d.send(session, method, params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a := <-asker:
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
	asker := make(chan answer, 1)
	d.waiting[d.last] = asker
	_, err = d.out.Write(append(b, 0))
	return asker, err
}
