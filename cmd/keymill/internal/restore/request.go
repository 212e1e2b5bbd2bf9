package restore

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"keymill/cmd/keymill/internal/backupfile"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
)

// A Request is what an administrator asks for.
type Request struct {
	Config       *config.Config
	File         string    // the backup; "-" is Stdin
	Stdin        io.Reader // read if File says so
	Errs         io.Writer // for progress
	Identities   []string  // files of secret keys of age
	Set          string    // a file with a key set; "" for none
	Replace      bool
	TrustKeys    bool
	AcceptDamage bool
	KeepSessions bool
}

// Run reads what the request names, and restores.
func Run(ctx context.Context, q Request) (*Report, error) {
	if err := cmp.Or(q.Config.CheckStore(), q.Config.CheckKeys()); err != nil {
		return nil, err
	}
	q.Config.Dev = config.IsTrial(q.Config.Data)
	master, _, err := diagnose.MasterKey(q.Config)
	if err != nil {
		return nil, err
	}
	o := Options{
		Config: q.Config, Master: master, Name: q.File,
		Replace: q.Replace, TrustKeys: q.TrustKeys, KeepSessions: q.KeepSessions, AcceptDamage: q.AcceptDamage,
		By: fmt.Sprintf("uid:%d", os.Getuid()),
	}
	if q.File == "-" {
		o.Name = "standard input"
	}
	if q.Set != "" {
		if o.Set, err = backupfile.KeySet(q.Set); err != nil {
			return nil, err
		}
	}
	in, err := backupfile.OpenInput(ctx, backupfile.Source{Name: q.File, Stdin: q.Stdin, Identities: q.Identities}, terminal.NewProgress(q.Errs))
	if ctx.Err() != nil {
		return nil, interrupted(q.Config)
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if err := serve.Harden(); err != nil {
		return nil, err
	}
	o.In = in
	return Restore(ctx, o)
}
