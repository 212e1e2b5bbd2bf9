package jwks

import (
	"net/http"
	"strings"
	"time"
)

// How long a set is fresh, whatever its server says.
const (
	longestFresh  = time.Hour       // so that a removed key is forgotten within the hour
	unstatedFresh = 5 * time.Minute // where the server says nothing that can be read
	shortestFresh = 10 * time.Second
)

// freshFor returns how long an answer is fresh from when it was asked for on (RFC 9111,
// section 4.2): max-age less what it spent in caches, at most an hour. One that is to be
// kept not at all, or is too old as it comes, is fresh for 10 s all the same: else every
// token would cost a fetch.
//
// s-maxage is for shared caches, which this is not. must-revalidate would forbid to use
// a stale set while the server is down (section 5.2.2.2): MaxStale decides that here.
func freshFor(cacheControl []string, age time.Duration) time.Duration {
	maxAge, given := readMaxAge(cacheControl)
	if !given {
		return unstatedFresh
	}
	left := min(maxAge-age, longestFresh)
	if left <= 0 {
		return shortestFresh
	}
	return left
}

// readMaxAge returns the least that Cache-Control allows (RFC 9111, section 5.2.2), 0 if
// it says no-store or no-cache. What cannot be read is passed over.
func readMaxAge(lines []string) (least time.Duration, given bool) {
	for _, line := range lines {
		for line != "" {
			var directive string
			directive, line = cutDirective(line)
			name, value, _ := strings.Cut(directive, "=")
			var age time.Duration
			switch strings.ToLower(name) {
			case "no-store", "no-cache": // no-cache="…" too, which many caches read alike
			case "max-age":
				var ok bool
				if age, ok = readSeconds(unquote(value)); !ok {
					continue
				}
			default:
				continue
			}
			if !given || age < least {
				least, given = age, true
			}
		}
	}
	return least, given
}

// cutDirective returns the first directive of line, and what follows its comma. A comma
// between quotes ends nothing: private="a, max-age=9" is one directive.
func cutDirective(line string) (directive, rest string) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ',' && !quoted:
			return strings.Trim(line[:i], " \t"), line[i+1:]
		}
	}
	return strings.Trim(line, " \t"), ""
}

// unquote takes max-age="60" for max-age=60, as RFC 9111, section 5.2, asks of readers.
func unquote(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// readSeconds reads delta-seconds. Too many of them are 2^31 (RFC 9111, section 1.2.2).
func readSeconds(s string) (time.Duration, bool) {
	const most = 1 << 31
	seconds := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		seconds = min(seconds*10+int64(s[i]-'0'), most)
	}
	return time.Duration(seconds) * time.Second, s != ""
}

// readAge returns what the answer says it spent in caches. Of several values the first
// counts, and one that is no number does not (RFC 9111, section 5.1).
func readAge(header http.Header) time.Duration {
	first, _, _ := strings.Cut(header.Get("Age"), ",")
	age, _ := readSeconds(strings.Trim(first, " \t"))
	return age
}

// entityTag returns the ETag of an answer if it can be sent back (RFC 9110, section
// 8.8.3). A tag that net/http refuses to send would make every later fetch fail.
func entityTag(header http.Header) string {
	const longest = 256
	tag := header.Get("ETag")
	opaque := strings.TrimPrefix(tag, "W/")
	if len(tag) > longest || len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
		return ""
	}
	for i := 1; i < len(opaque)-1; i++ {
		if c := opaque[i]; c <= ' ' || c == '"' || c == 0x7f {
			return ""
		}
	}
	return tag
}
