package serve

import (
	"context"
	"errors"
	"time"

	"keymill/cmd/keymill/internal/auditlines"
)

const (
	// stderrLines is how many audit records are written to standard error in a second. systemd-journald
	// drops the lines of a service that writes more than 10,000 in 30 seconds.
	stderrLines = 250

	// lastLinesTime bounds how long the end of the server waits for the last audit records.
	lastLinesTime = time.Second
)

// openAuditLines prepares the copy of the audit log that audit.log asks for. The file itself is opened by the
// background loop: a fault of it ends no server.
func (s *server) openAuditLines(context.Context) error {
	cfg := auditlines.Config{Store: s.store, Name: s.config.AuditLog, Log: s.log, Hold: s.lease("audit.log")}
	switch s.config.AuditLog {
	case "":
		return nil
	case "stderr":
		cfg.To, cfg.Name, cfg.PerSecond = sureLines{s.queue}, "standard error", stderrLines
	default:
		cfg.To = auditlines.NewFile(s.config.AuditLog, s.log)
	}
	s.auditLines = auditlines.New(cfg)
	return nil
}

// flushAuditLines writes the last records, after the loops have ended.
func (s *server) flushAuditLines() {
	if s.auditLines == nil || s.file.Status().Failed != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastLinesTime)
	defer cancel()
	s.auditLines.Flush(ctx)
}

// A sureLines is an auditlines.Destination: it writes to the log between the lines of the log, and says for each line
// whether it was written.
type sureLines struct{ queue *logQueue }

// Write implements auditlines.Destination.
func (d sureLines) Write(lines [][]byte) (int, error) {
	for n, line := range lines {
		if err := d.queue.writeSurely(append(line, '\n')); err != nil {
			return n, err
		}
	}
	return len(lines), nil
}

var errLogEnded = errors.New("the log has ended")

// writeSurely queues p, which is a complete line, waits until it is written, and returns the error if it could not
// be. Such a line is never dropped and never counted as lost: its writer has it still.
func (q *logQueue) writeSurely(p []byte) error {
	line := logLine{text: p, written: make(chan error, 1)}
	select {
	case q.lines <- line:
	case <-q.ended:
		return errLogEnded
	}
	select {
	case err := <-line.written:
		return err
	case <-q.ended:
		return errLogEnded
	}
}
