// Package migrate moves a store to another place: from a data directory to a PostgreSQL database or back. The source serves
// reads in the meantime.
//
//	file, or the server that has it ──┐            ┌──▶ file
//	                                  ├── records ─┤
//	database, used by servers ────────┘            └──▶ database
//
// It copies the records as they are stored, with their tags and seals, so it needs no master key. What may be
// written at which moment, and what a crash leaves behind, is decided by package storage/moved. The records of
// nodes (node/…, lease/…) stay behind: they are about the servers of the source.
//
// The copy compares both stores and writes what differs. So an interrupted one goes on, and costs a comparison of
// what is there. Then both are read again, record by record, and must be equal.
package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/moved"
)

// Options say what to move.
type Options struct {
	From, To string // a data directory, or the URL of a database
	DryRun   bool   // look, and change nothing
	Abort    bool   // free From, which an interrupted migration has left

	// Password returns where the password of a database comes from. The function that it returns can be nil.
	Password func(url string) (func() (string, error), error)
	Notes    io.Writer // standard error: the plan, and how far it is

	step     func(name string) error // called before each step; nil except in tests
	patience time.Duration           // 0 except in tests
}

// A Result is what was done.
type Result struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Database string `json:"database_id"`
	Records  int    `json:"records"`
	Bytes    int64  `json:"bytes"`
	Written  int    `json:"written"`            // records that the target did not have
	LeftOut  int    `json:"left_out,omitempty"` // that no version of Keymill can have written
	Resumed  bool   `json:"resumed,omitempty"`  // an earlier run had begun
	Outcome  string `json:"outcome"`            // moved, planned or freed
	Served   bool   `json:"served"`             // a server has the source and goes on serving reads
}

// A migration is one run.
type migration struct {
	Options
	fromAddr, toAddr address
	from             *source
	locked           bool // from is a file, which no other process has
	to               *place
	facts            facts
	record           moved.Record // of this run
	result           Result
	progress         *terminal.Progress
}

// Run moves the store.
func Run(ctx context.Context, o Options) (*Result, error) {
	m := &migration{Options: o, progress: terminal.NewProgress(o.Notes)}
	defer m.progress.End()
	if m.step == nil {
		m.step = func(string) error { return nil }
	}
	m.patience = cmp.Or(m.patience, patience)
	if err := m.addresses(); err != nil {
		return nil, err
	}
	if err := m.openSource(ctx); err != nil {
		return nil, err
	}
	defer func() { m.from.close() }()
	if o.Abort {
		return m.abort(ctx)
	}
	if err := m.checkSource(); err != nil {
		return nil, err
	}
	m.record = moved.NewRun(m.fromAddr.String(), m.toAddr.String(), m.facts.Meta.DatabaseID)
	if o.DryRun {
		return m.plan(ctx)
	}
	if err := m.openTarget(ctx, true); err != nil {
		return nil, err
	}
	defer func() { m.to.Close() }()
	if m.facts.Record != nil && m.facts.Record.State == moved.Moved {
		return m.completeMoved(ctx)
	}
	if err := m.checkTarget(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintln(o.Notes, m.planText())
	if err := m.move(ctx); err != nil {
		return nil, err
	}
	m.result.Outcome = "moved"
	return &m.result, nil
}

func (m *migration) addresses() (err error) {
	if m.fromAddr, err = parseAddress("--from", m.From); err != nil {
		return err
	}
	if m.Abort {
		if m.To != "" {
			return terminal.Usage("--abort frees the source; it takes --from and no --to")
		}
		return nil
	}
	if m.toAddr, err = parseAddress("--to", m.To); err != nil {
		return err
	}
	if m.fromAddr == m.toAddr {
		return terminal.Usage("--from and --to name the same store")
	}
	return nil
}

func (m *migration) openSource(ctx context.Context) (err error) {
	if m.fromAddr.url != "" {
		d, err := m.open(ctx, m.fromAddr.url, false)
		if err != nil {
			return err
		}
		m.from, m.result.Served = sourceOf(d), true
	} else if err := m.openSourceDir(ctx); err != nil {
		return err
	}
	m.from = m.saying(m.from)
	m.facts, err = m.from.look(ctx)
	if schema := (*storage.SchemaError)(nil); errors.Is(err, storage.ErrNotFound) {
		err = terminal.WithHint(fmt.Errorf("%s holds no store", m.fromAddr), "is the address right?")
	} else if errors.As(err, &schema) {
		err = fmt.Errorf("%s: %w", m.fromAddr, err)
	} else if errors.Is(err, storage.ErrDamaged) && m.Abort {
		err = nil // it is removed
	}
	if err != nil {
		m.from.close()
	}
	return err
}

// openSourceDir opens the store in a data directory, or asks the server that has it.
func (m *migration) openSourceDir(ctx context.Context) error {
	f, err := openFile(m.fromAddr.dir, false)
	var inUse *datadir.InUseError
	if err == nil {
		m.from, m.locked = sourceOf(f), true
		return nil
	}
	if !errors.As(err, &inUse) {
		return err
	}
	server, dialErr := adminapi.Dial(ctx, []string{m.fromAddr.dir})
	if dialErr != nil {
		return terminal.WithHint(err, "it is no server that can be asked: %v", terminal.Plain(dialErr))
	}
	m.from, m.result.Served = liveSource(server, m.patience), true
	return nil
}

// open opens a database.
func (m *migration) open(ctx context.Context, url string, create bool) (*place, error) {
	password, err := m.Password(url)
	if err != nil {
		return nil, err
	}
	return openDatabase(ctx, url, password, create)
}

func (m *migration) openTarget(ctx context.Context, create bool) error {
	if m.toAddr.url != "" {
		d, err := m.open(ctx, m.toAddr.url, create)
		if err != nil {
			return err
		}
		m.to = d
		return nil
	}
	f, err := openFile(m.toAddr.dir, create)
	if inUse := (*datadir.InUseError)(nil); errors.As(err, &inUse) {
		return terminal.WithHint(err, "name a directory that no server uses, or stop that server first")
	}
	if err != nil {
		return err
	}
	m.to = f
	return nil
}

// checkSource refuses a store that cannot be a source.
func (m *migration) checkSource() error {
	if m.facts.Meta.Dev && m.toAddr.url != "" {
		return terminal.WithHint(fmt.Errorf("%s holds a trial store, which only serve --dev serves, from its own directory", m.fromAddr), "make a store with keymill init")
	}
	r := m.facts.Record
	switch {
	case r == nil, r.State == moved.Moving:
		return nil
	case r.State == moved.Incomplete:
		return terminal.WithHint(fmt.Errorf("%s: %w", m.fromAddr, &moved.Error{Record: *r}), "it cannot be moved on before it is complete")
	case r.To != m.toAddr.String():
		return terminal.WithHint(fmt.Errorf("%s: %w", m.fromAddr, &moved.Error{Record: *r}), "move it from there, with --from %s", terminal.ShellWord(r.To))
	}
	return nil
}

// checkTarget refuses a target that holds other records.
func (m *migration) checkTarget(ctx context.Context) error {
	var before *moved.Record
	err := m.to.View(ctx, func(r storage.Reader) (err error) {
		if before, err = moved.Read(r); err != nil {
			return err
		}
		return moved.CheckTarget(r, m.record)
	})
	m.result.Resumed = before != nil
	return m.targetFault(err)
}

// needsEmpty is a hint, with what has to be removed.
const needsEmpty = "a migration needs an empty target: name another one, or remove %s"

func (m *migration) targetFault(err error) error {
	var occupied *moved.OccupiedError
	var other *moved.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &occupied):
		return terminal.WithHint(fmt.Errorf("%s: %w", m.toAddr, err), needsEmpty, m.toAddr.store())
	case errors.As(err, &other) && other.State == moved.Moved: // on the way back
		return terminal.WithHint(fmt.Errorf("%s is not empty: %w", m.toAddr, err), needsEmpty, m.toAddr.store())
	case errors.As(err, &other):
		return terminal.WithHint(fmt.Errorf("%s: %w", m.toAddr, err), "%s", other.Hint())
	case isFull(err):
		return terminal.WithHint(fmt.Errorf("the disk of %s is full: %w", m.toAddr, err), "free space there and run the same command again")
	}
	return fmt.Errorf("%s: %w", m.toAddr, err)
}

// completeMoved ends a migration that was killed after the source said that it is moved.
func (m *migration) completeMoved(ctx context.Context) (*Result, error) {
	r := m.facts.Record
	to, err := moved.Of(ctx, m.to)
	if err != nil {
		return nil, m.targetFault(err)
	}
	m.result.Resumed = true
	m.fill()
	m.result.Outcome = "moved"
	if to == nil {
		if f, err := lookAt(ctx, m.to); err != nil || f.Meta.DatabaseID != r.Database {
			return nil, terminal.WithHint(fmt.Errorf("%s says that it was moved to %s, and that holds no such store", m.fromAddr, m.toAddr), "restore a backup of the store that was served there")
		}
		return &m.result, nil // all was done
	}
	return &m.result, m.targetFault(moved.Complete(ctx, m.to, r.Run))
}

func (m *migration) fill() {
	m.result.From, m.result.To, m.result.Database = m.fromAddr.String(), m.toAddr.String(), m.facts.Meta.DatabaseID
}

// plan says what a migration would do.
func (m *migration) plan(ctx context.Context) (*Result, error) {
	m.fill()
	m.result.Outcome = "planned"
	if err := m.openTarget(ctx, false); err == nil {
		defer m.to.Close()
		if r := m.facts.Record; r == nil || r.State != moved.Moved {
			if err := m.checkTarget(ctx); err != nil {
				return nil, err
			}
		}
	} else if !isMissing(err) {
		return nil, err
	}
	fmt.Fprintln(m.Notes, m.planText())
	return &m.result, nil
}

// abort frees the source.
func (m *migration) abort(ctx context.Context) (*Result, error) {
	m.fill()
	m.result.Outcome = "freed"
	err := m.from.step(ctx, moved.Request{Step: "free"})
	if refused := (*moved.Error)(nil); errors.As(err, &refused) {
		err = terminal.WithHint(fmt.Errorf("%s: %w", m.fromAddr, err), "a store that was moved is not freed: it would be served twice")
	}
	return &m.result, err
}

// freeWithin bounds how long a migration that failed tries to free its source.
const freeWithin = 15 * time.Second

// move does the work, from the record in the source on. After an error before the end the source is freed.
func (m *migration) move(ctx context.Context) error {
	m.fill()
	if err := m.step("begin"); err != nil {
		return err
	}
	if err := m.begin(ctx); err != nil {
		return err
	}
	held, release := m.hold(ctx)
	err := m.copyAndCompare(held)
	if err == nil {
		err = m.step("finish")
	}
	release()
	if cause := context.Cause(held); err != nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	if err != nil {
		return m.free(ctx, err)
	}
	return m.finish(context.WithoutCancel(ctx))
}

// begin writes the record in the source. If another run has it, it waits to see whether that one goes on.
func (m *migration) begin(ctx context.Context) error {
	over := uint64(0)
	if r := m.facts.Record; r != nil && m.locked {
		over = r.Beat // its run has ended, because it had the lock
	} else if r != nil {
		fmt.Fprintf(m.Notes, "another migration has begun; waiting %s to see whether it goes on\n", deadAfter)
		select {
		case <-ctx.Done():
			return interrupted(m.fromAddr)
		case <-time.After(deadAfter):
		}
		over = r.Beat
	}
	err := m.from.step(ctx, moved.Request{Step: "begin", Record: m.record, Over: over})
	refused := (*moved.Error)(nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) || isConflict(err):
		return terminal.WithHint(fmt.Errorf("%s: another migration is at work: %w", m.fromAddr, err), "wait for its end, or end it")
	}
	return m.free(ctx, err) // the record may be there: the answer can be lost
}

// deadAfter is how long a record is not renewed before another run takes over.
const deadAfter = 3*moved.RenewEvery + time.Second

// copyAndCompare makes the target what the source is.
func (m *migration) copyAndCompare(ctx context.Context) error {
	if err := m.step("expect"); err != nil {
		return err
	}
	if err := moved.Expect(ctx, m.to, m.record); err != nil {
		return m.targetFault(err)
	}
	if err := m.step("copy"); err != nil {
		return err
	}
	var t tally
	written, err := copyRecords(ctx, changes(ctx, m.from, m.to, &t, m.report("copying", &t)), m.to, m.record.Run)
	if err != nil {
		return m.targetFault(err)
	}
	if err := m.step("compare"); err != nil {
		return err
	}
	var again tally
	if err := compare(ctx, m.from, m.to, &again, m.report("comparing", &again)); err != nil {
		return m.targetFault(err)
	}
	if again != t {
		return fmt.Errorf("%s changed while it was copied: %d records at first, then %d", m.fromAddr, t.Records, again.Records)
	}
	m.result.Records, m.result.Bytes, m.result.Written, m.result.LeftOut = t.Records, t.Bytes, written, t.LeftOut
	return m.targetFault(moved.Expected(ctx, m.to, m.record.Run))
}

// report returns a function that shows how far a pass over the records is.
func (m *migration) report(what string, t *tally) func() {
	return func() {
		if t.Records%1000 == 0 {
			m.progress.Show(t.Bytes, m.facts.Bytes, fmt.Sprintf("%s: %s, %s", what, terminal.Count(t.Records, "record"), terminal.Size(t.Bytes)))
		}
	}
}

// hold renews the record of the source until release. The context ends if the source is lost.
func (m *migration) hold(ctx context.Context) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		renewed := time.Now()
		for {
			select {
			case <-stop:
				return
			case <-held.Done():
				return
			case <-time.After(moved.RenewEvery):
			}
			err := m.from.step(held, moved.Request{Step: "renew", Record: m.record})
			switch {
			case err == nil:
				renewed = time.Now()
			case errors.Is(err, moved.ErrLost), errors.Is(err, errSilent), time.Since(renewed) > moved.FreeAfter:
				cancel(err)
				return
			}
		}
	}()
	return held, func() {
		close(stop)
		<-ended
	}
}

// finish makes the source one that was moved, and then the target one that can be served.
func (m *migration) finish(ctx context.Context) error {
	err := m.from.step(ctx, moved.Request{Step: "finish", Record: m.record})
	if err != nil {
		now, lookErr := m.from.look(ctx)
		if lookErr != nil {
			return terminal.WithHint(fmt.Errorf("it is not known whether %s says that it was moved: %w", m.fromAddr, err), "run the same command again")
		}
		if now.Record == nil || now.Record.State != moved.Moved || now.Record.Run != m.record.Run {
			return m.free(ctx, err)
		}
	}
	if err := m.step("complete"); err != nil {
		return err
	}
	if err := moved.Complete(ctx, m.to, m.record.Run); err != nil {
		return terminal.WithHint(fmt.Errorf("%s is moved, and %s is complete but cannot be served yet: %w", m.fromAddr, m.toAddr, err), "run the same command again")
	}
	return nil
}

// free frees the source after an error, and returns what to tell.
func (m *migration) free(ctx context.Context, why error) error {
	m.progress.End()
	if ctx.Err() != nil {
		why = interrupted(m.fromAddr)
	}
	if errors.Is(why, errKilled) {
		return why
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), freeWithin)
	defer cancel()
	if err := m.from.step(bounded, moved.Request{Step: "free", Record: m.record}); err != nil {
		what := fmt.Errorf("%w; and %s cannot be freed now: %w", why, m.fromAddr, err)
		if errors.Is(why, errSilent) {
			what = why
		}
		return terminal.WithHint(what,
			"its servers free it a minute after they can; to go on with the migration, run the same command again")
	}
	if terminal.HintOf(why) != "" {
		return why
	}
	return terminal.WithHint(why, "%s is written again as before; to go on with the migration, run the same command again", m.fromAddr)
}

// errKilled ends a run in a test as a kill does.
var errKilled = errors.New("killed")

func interrupted(from address) error { return fmt.Errorf("interrupted; %s was not moved", from) }
