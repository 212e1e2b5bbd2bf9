package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/moved"
)

// A live source is the store of a running server, which is asked over its admin socket.
type live struct {
	server   *adminapi.Client
	patience time.Duration // with one answer
}

// liveSource returns the source that a server has open.
func liveSource(server *adminapi.Client, patience time.Duration) *source {
	l := live{server, patience}
	return &source{look: l.look, step: l.step, records: l.records, close: func() error { return nil }}
}

func (l live) ask(ctx context.Context, q api.MigrationRequest) (api.Migration, error) {
	bounded, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	answer, _, err := adminapi.Ask[api.Migration](bounded, l.server, http.MethodPost, "migration", q)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = terminal.WithHint(fmt.Errorf("%s: %w for %s", l.server.Name(), errSilent, l.patience),
			"if its process is stopped or hangs, let it go on or end it, and run the same command again")
	}
	return answer, err
}

// look is that of a source.
func (l live) look(ctx context.Context) (facts, error) {
	a, err := l.ask(ctx, api.MigrationRequest{Step: "look"})
	f := facts{Meta: storage.Meta{DatabaseID: a.Database, Schema: a.Schema, Created: a.Created, Dev: a.Trial}, Bytes: a.Bytes}
	if a.State != "" {
		f.Record = &moved.Record{State: moved.State(a.State), Run: a.Run, From: a.From, To: a.To, Database: a.Database, Beat: a.Beat}
		if a.Since != nil {
			f.Record.Time = *a.Since
		}
	}
	return f, err
}

// step is that of a source.
func (l live) step(ctx context.Context, q moved.Request) error {
	r := q.Record
	_, err := l.ask(ctx, api.MigrationRequest{Step: q.Step, Run: r.Run, From: r.From, To: r.To, Over: q.Over})
	var refused *adminapi.Error
	if errors.As(err, &refused) && refused.Code == "in_use" && (q.Step == "renew" || q.Step == "finish") {
		return fmt.Errorf("%w: %w", moved.ErrLost, err)
	}
	return err
}

// records is that of a source. The stream is a copy as keymill backup gets it, of a store that does not change.
func (l live) records(ctx context.Context) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		body, err := l.server.Stream(ctx, "migration/records")
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		defer body.Close()
		r, err := backup.NewReader(body)
		for err == nil {
			var w storage.Write
			w, err = r.Next()
			if err == nil && !yield(storage.Entry{Key: w.Key, Value: w.Value}, nil) {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			// Their names are not in the copy. So they are passed on as one that is counted and left out.
			for n := range r.Trailer().LeftOut {
				if !yield(storage.Entry{Key: strings.Repeat("\x7f", n+1)}, nil) {
					return
				}
			}
			return
		}
		yield(storage.Entry{}, fmt.Errorf("the server ended the copy: %w", err))
	}
}
