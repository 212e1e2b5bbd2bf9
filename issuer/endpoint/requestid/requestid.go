// Package requestid takes the ids that a request brings with it into its log lines, so that the lines
// of several programs about one request can be found together:
//
//	traceparent: 00-<trace-id>-<parent-id>-<flags>   trace_id    W3C Trace Context, level 1
//	X-Request-Id: <id>                               request_id  no standard; proxies set it
//
// Add puts them into the context of a request, and a Handler adds them to each line that is logged with that
// context. Any caller can write these headers, so an id is only an attribute of a line: no
// decision, no metric and no answer depends on it. A value that does not have its form is ignored
// without a line, because a line for each would let callers fill the log. So is a header that is given
// more than once: one of its values may come from a caller in front of the proxy that set the other.
package requestid

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
)

// ids are the ids of one request; "" for one that it does not have.
type ids struct{ trace, request string }

type contextKey struct{}

// Add returns r with the ids of its headers in its context, or r itself if it has none.
func Add(r *http.Request) *http.Request {
	found := ids{traceID(single(r.Header["Traceparent"])), requestID(single(r.Header["X-Request-Id"]))}
	if found == (ids{}) {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), contextKey{}, found))
}

// single returns the only value of a header, or "".
func single(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// Places in a traceparent of version 00, see W3C Trace Context, section 3.2.2.
const (
	traceBegin  = len("00-")
	traceEnd    = traceBegin + 32
	parentBegin = traceEnd + 1
	parentEnd   = parentBegin + 16
	flagsBegin  = parentEnd + 1
	flagsEnd    = flagsBegin + 2
)

// traceID returns the trace-id of a traceparent, or "" if the value is invalid. A later version may add
// fields behind those of version 00, after a dash (section 3.2.4); version ff is invalid.
func traceID(v string) string {
	if len(v) < flagsEnd || v[traceBegin-1] != '-' || v[traceEnd] != '-' || v[parentEnd] != '-' {
		return ""
	}
	version, trace, parent, flags := v[:traceBegin-1], v[traceBegin:traceEnd], v[parentBegin:parentEnd], v[flagsBegin:flagsEnd]
	if !isHex(version) || !isHex(trace) || !isHex(parent) || !isHex(flags) || version == "ff" || isZero(trace) || isZero(parent) {
		return ""
	}
	if len(v) > flagsEnd && (version == "00" || v[flagsEnd] != '-') {
		return ""
	}
	return trace
}

// isHex accepts lower case only, as section 3.2.2.1 does.
func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func isZero(s string) bool { return strings.Trim(s, "0") == "" }

const maxRequestID = 128

// requestID returns v if it is a possible id, or "". The characters are those of UUIDs, base64, paths and
// addresses. None of them ends a line, a field or a quotation in a log.
func requestID(v string) string {
	if len(v) > maxRequestID || strings.ContainsFunc(v, isForeign) {
		return ""
	}
	return v
}

func isForeign(c rune) bool {
	return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~:/+=@", c))
}

// A Handler is a slog.Handler that adds the attributes trace_id and request_id to the lines that are logged
// with the context of a request.
type Handler struct{ next slog.Handler }

// NewHandler returns a Handler that passes the lines on to next.
func NewHandler(next slog.Handler) Handler { return Handler{next} }

// Enabled implements slog.Handler.
func (h Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h Handler) Handle(ctx context.Context, line slog.Record) error {
	found, _ := ctx.Value(contextKey{}).(ids)
	if found != (ids{}) {
		line = line.Clone() // others may share its attributes
	}
	if found.trace != "" {
		line.AddAttrs(slog.String("trace_id", found.trace))
	}
	if found.request != "" {
		line.AddAttrs(slog.String("request_id", found.request))
	}
	return h.next.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler { return Handler{h.next.WithAttrs(attrs)} }

// WithGroup implements slog.Handler. The ids then are members of the group.
func (h Handler) WithGroup(name string) slog.Handler { return Handler{h.next.WithGroup(name)} }
