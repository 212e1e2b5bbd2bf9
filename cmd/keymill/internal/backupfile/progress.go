package backupfile

import (
	"fmt"
	"io"

	"keymill/cmd/keymill/internal/terminal"
)

// A counter shows how much was read.
type counter struct {
	in    io.Reader
	shown *terminal.Progress
	total int64 // about; 0 if it is not known
	read  int64
}

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.read += int64(n)
	text := fmt.Sprintf("%d MiB", c.read>>20)
	if c.total > 0 {
		text = fmt.Sprintf("%s of about %d MiB", text, max(c.total, c.read)>>20)
	}
	c.shown.Show(c.read, c.total, text)
	return n, err
}
