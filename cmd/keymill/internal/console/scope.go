package console

import (
	"errors"
	"strings"
	"unicode"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// With --server, the token may lack the scope of a part of a page. The page shows the rest, and a change needs only the scopes
// of the thing and of the change itself.

// missingScope returns the scope that a token lacks, if that is why the server refused.
func missingScope(err error) (scope string, is bool) {
	refused := (*adminapi.Error)(nil)
	if errors.As(err, &refused) && refused.Code == "insufficient_scope" {
		return short(refused.Scope), true
	}
	return "", false
}

// notKnown returns what stands for a number that the token may not read.
func notKnown(err error) (cell, error) {
	if scope, is := missingScope(err); is {
		return cell{Text: "not known", Kind: "dull", Hint: "it needs the scope " + scope}, nil
	}
	return cell{}, err
}

// without says that the token may not read a part of the page. It returns every other error.
func (p *page) without(part string, err error) error {
	scope, is := missingScope(err)
	if !is {
		return err
	}
	p.Notes = append(p.Notes, part+" is not shown: it needs the scope "+scope+".")
	return nil
}

// status returns the status of the server. It is empty if the token may not read it.
func (s *site) status(r *request) (api.Status, error) {
	status, err := get[api.Status](r, s, "status", nil)
	if _, is := missingScope(err); is {
		return api.Status{}, nil
	}
	return status, err
}

// hints returns what to do about a refusal, as a command does in its second line.
func hints(err error) []string {
	hint := terminal.HintOf(err)
	if hint == "" || !errors.As(err, new(*adminapi.Error)) {
		return nil
	}
	first := []rune(whole(strings.TrimSuffix(hint, ".")) + ".")
	first[0] = unicode.ToUpper(first[0])
	return []string{string(first)}
}
