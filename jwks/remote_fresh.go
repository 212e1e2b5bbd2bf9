package jwks

import (
	"net/http"
	"strings"
	"time"
)

// Limits of the time for which a set is fresh.
const (
	longestFresh  = time.Hour       // so that a removed key is gone within an hour
	defaultFresh  = 5 * time.Minute // if Cache-Control is missing or cannot be read
	shortestFresh = 10 * time.Second
)

// freshFor returns how long a response is fresh, counted from its request (RFC 9111, section
// 4.2): max-age less the time that it spent in caches, at most an hour. A response that must
// not be stored, or that arrives too old, is fresh for 10 s. Otherwise every token would cause
// a fetch.
//
// s-maxage is ignored, since it is for shared caches. must-revalidate is ignored too. It would
// forbid the use of a stale set while the server is down (section 5.2.2.2); MaxStale decides
// that instead.
func freshFor(cacheControl []string, age time.Duration) time.Duration {
	maxAge, given := readMaxAge(cacheControl)
	if !given {
		return defaultFresh
	}
	left := min(maxAge-age, longestFresh)
	if left <= 0 {
		return shortestFresh
	}
	return left
}

// readMaxAge returns the shortest time that Cache-Control allows (RFC 9111, section 5.2.2), and
// 0 for no-store and no-cache. It ignores what it cannot read.
func readMaxAge(lines []string) (least time.Duration, given bool) {
	for _, line := range lines {
		for line != "" {
			var directive string
			directive, line = cutDirective(line)
			name, value, _ := strings.Cut(directive, "=")
			var age time.Duration
			switch strings.ToLower(name) {
			case "no-store", "no-cache": // also no-cache="…", which many caches treat the same
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

// cutDirective returns the first directive of line, and the text after its comma. A comma
// between quotes does not end a directive: private="a, max-age=9" is one.
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

// unquote reads max-age="60" as max-age=60, as RFC 9111, section 5.2, recommends.
func unquote(value string) string {
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// readSeconds reads delta-seconds. A larger number counts as 2^31 (RFC 9111, section 1.2.2).
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

// readAge returns the time that the response spent in caches, from its Age header. It uses the
// first of several values, and ignores a value that is not a number (RFC 9111, section 5.1).
func readAge(header http.Header) time.Duration {
	first, _, _ := strings.Cut(header.Get("Age"), ",")
	age, _ := readSeconds(strings.Trim(first, " \t"))
	return age
}

// entityTag returns the ETag of a response, and "" if it is not valid (RFC 9110, section 8.8.3).
// net/http would refuse to send an invalid one back, and every later fetch would fail.
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
