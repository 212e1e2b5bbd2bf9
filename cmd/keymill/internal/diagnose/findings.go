package diagnose

import (
	"errors"
	"io"
	"slices"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// Findings is what a Doctor prints.
type Findings struct {
	Data   string    `json:"data,omitempty"` // the directory; "" for a backup
	OK     bool      `json:"ok"`             // every check is
	Checks []Finding `json:"checks"`
}

// A Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was found, or what is wrong

	NotChecked bool `json:"not_checked,omitempty"` // Detail says why
}

// add records one check and reports whether it passed.
func (f *Findings) add(check, detail string, err error) bool {
	if err != nil {
		detail = terminal.Plain(err)
		if hint := terminal.HintOf(err); hint != "" {
			detail += "; " + hint
		}
		detail = terminal.OneLine(detail)
	}
	f.Checks = append(f.Checks, Finding{Check: check, OK: err == nil, Detail: detail})
	return err == nil
}

// skip records a check that could not be made, and why. It is no fault.
func (f *Findings) skip(check, why string) {
	f.Checks = append(f.Checks, Finding{Check: check, OK: true, Detail: why, NotChecked: true})
}

// check records a check that has nothing to say if it passed.
func (f *Findings) check(check string, err error) bool { return err == nil || f.add(check, "", err) }

// warn records what does not keep the server from being ready.
func (f *Findings) warn(list []api.Warning) {
	for _, w := range list {
		f.add(w.Check, "", errors.New(w.Detail))
	}
}

// failed returns the names of the checks that failed, each once.
func (f *Findings) failed() (names []string) {
	for _, c := range f.Checks {
		if !c.OK && !slices.Contains(names, c.Check) {
			names = append(names, c.Check)
		}
	}
	return names
}

// Print writes the findings as a table or as JSON. It returns terminal.ErrSilent if a check
// failed, so that the exit code is 1.
func (f Findings) Print(w io.Writer, asJSON bool) error {
	var err error
	if asJSON {
		err = f.printJSON(w)
	} else {
		err = f.printTable(w)
	}
	if err == nil && !f.OK {
		return terminal.ErrSilent
	}
	return err
}

func (f Findings) printJSON(w io.Writer) error {
	raw, err := terminal.MarshalJSON(f)
	if err != nil {
		return err
	}
	return terminal.PrintJSON(w, raw)
}

func (f Findings) printTable(w io.Writer) error {
	t := terminal.NewTable(w)
	for _, c := range f.Checks {
		word := "ok"
		switch {
		case c.NotChecked:
			word = "not checked"
		case !c.OK:
			word = failed
		}
		t.Row(word, c.Check, c.Detail)
	}
	return t.Flush()
}
