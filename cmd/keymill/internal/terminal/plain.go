package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
)

// Plain returns the text of err. The errors of Go's libraries are written for programmers: their texts
// begin with the name of a system call or of a function of Go. Inside of err they are replaced by
// what they mean.
func Plain(err error) string {
	text := err.Error()
	text = plainPath(text, err)
	text = meaning(text, err, func(e *os.LinkError) string { return verb(e.Op) + " " + e.Old + " to " + e.New + ": " + Plain(e.Err) })
	text = meaning(text, err, func(e *net.OpError) string { return Plain(e.Err) })
	text = meaning(text, err, func(e *os.SyscallError) string { return Plain(e.Err) })
	text = meaning(text, err, func(e *net.DNSError) string { return "the name " + e.Name + " cannot be resolved: " + e.Err })
	text = meaning(text, err, numberFault)
	text = meaning(text, err, func(*json.SyntaxError) string { return "the JSON is not well-formed" })
	text = meaning(text, err, func(e *json.UnmarshalTypeError) string {
		return "the JSON member " + OrDash(e.Field) + " has the wrong type"
	})
	for _, known := range []struct {
		err     error
		meaning string
	}{
		{context.DeadlineExceeded, "there was no answer in time"},
		{os.ErrDeadlineExceeded, "there was no answer in time"},
		{context.Canceled, "it was interrupted"},
		{io.ErrUnexpectedEOF, "the data ends too early"},
	} {
		if errors.Is(err, known.err) {
			text = strings.ReplaceAll(text, known.err.Error(), known.meaning)
		}
	}
	return text
}

// meaning replaces the text of the first error of type E in err.
func meaning[E error](text string, err error, of func(E) string) string {
	var inner E
	if !errors.As(err, &inner) {
		return text
	}
	return strings.ReplaceAll(text, inner.Error(), of(inner))
}

// plainPath names the file of an error, and what could not be done unless the text before says so.
func plainPath(text string, err error) string {
	var inner *fs.PathError
	if !errors.As(err, &inner) {
		return text
	}
	reason := inner.Path + ": " + Plain(inner.Err)
	before, after, found := strings.Cut(text, inner.Error())
	switch {
	case !found:
		return text
	case before == "":
		reason = verb(inner.Op) + " " + reason
	case strings.HasSuffix(before, inner.Path+": "):
		reason = Plain(inner.Err)
	}
	return before + reason + after
}

// verb returns what could not be done, for the name of a system call.
func verb(call string) string {
	switch call {
	case "stat", "lstat":
		return "cannot read"
	case "openat":
		return "cannot open"
	case "fsync", "fdatasync", "sync":
		return "cannot write"
	case "mkdir":
		return "cannot create"
	case "unlink", "unlinkat", "remove":
		return "cannot remove"
	}
	return "cannot " + call
}

func numberFault(e *strconv.NumError) string {
	switch {
	case errors.Is(e, strconv.ErrRange):
		return "the number is too large"
	case e.Func == "ParseBool":
		return "it is neither true nor false"
	}
	return "it is not a number"
}
