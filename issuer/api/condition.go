package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"keymill/issuer/refusal"
)

// etagOf returns a strong entity tag for what administrators decide: v has nothing else.
func etagOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package come here
	}
	sum := sha256.Sum256(b)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// ETag returns the entity tag of an audience.
func (a Audience) ETag() string {
	a.Warnings = nil
	return etagOf(a)
}

// ETag returns the entity tag of a client. A new secret changes it, and the end of an old one does not.
func (c Client) ETag() string {
	c.Secret, c.OldSecretUntil, c.Warnings = "", nil, nil
	return etagOf(c)
}

// ETag returns the entity tag of a user. The time of the last new password is a part of it. A login changes
// nothing of it, although it can replace the hash of the password.
func (u User) ETag() string {
	u.LastLogin, u.Scheme = nil, ""
	return etagOf(u)
}

// ETag returns the entity tag of a pinned verifier.
func (v Verifier) ETag() string { return etagOf([]any{v.Name, v.Added}) }

// A Condition says for which state of an entry a change is meant (RFC 9110, section 13.1): the headers
// If-Match and If-None-Match. The zero Condition is always met.
type Condition struct{ match, noneMatch *tagList }

// A tagList is the value of one of the headers.
type tagList struct {
	any  bool     // "*"
	tags []string // with their quotes, and with W/ if they are weak
}

// ParseCondition reads the values of the headers If-Match and If-None-Match, nil if one is absent.
func ParseCondition(ifMatch, ifNoneMatch []string) (c Condition, err error) {
	if c.match, err = parseTags("If-Match", ifMatch); err != nil {
		return c, err
	}
	c.noneMatch, err = parseTags("If-None-Match", ifNoneMatch)
	return c, err
}

// Only returns the Condition for the entry with that tag.
func Only(tag string) Condition { return Condition{match: &tagList{tags: []string{tag}}} }

// parseTags reads "*" or a list of entity tags (RFC 9110, section 8.8.3). A tag can have commas in its
// quotes. Lines of a header form one list.
func parseTags(header string, lines []string) (*tagList, error) {
	if len(lines) == 0 {
		return nil, nil
	}
	text := strings.Join(lines, ",")
	if strings.Trim(text, " \t") == "*" {
		return &tagList{any: true}, nil
	}
	list := &tagList{}
	for {
		text = strings.TrimLeft(text, " \t,") // RFC 9110, section 5.6.1: empty elements count as absent
		if text == "" {
			break
		}
		opaque, weak := strings.CutPrefix(text, "W/")
		end := strings.IndexByte(strings.TrimPrefix(opaque, `"`), '"')
		if !strings.HasPrefix(opaque, `"`) || end < 0 || strings.ContainsFunc(opaque[1:end+1], notInTag) {
			return nil, badTags(header)
		}
		tag := opaque[:end+2]
		text = strings.TrimLeft(opaque[end+2:], " \t")
		if text != "" && text[0] != ',' {
			return nil, badTags(header)
		}
		if weak {
			tag = "W/" + tag
		}
		list.tags = append(list.tags, tag)
	}
	if len(list.tags) == 0 {
		return nil, badTags(header)
	}
	return list, nil
}

// notInTag is for the characters between the quotes: VCHAR except quotes, and bytes above ASCII.
func notInTag(c rune) bool { return c < 0x21 || c == 0x7f }

func badTags(header string) error {
	return refusal.New("invalid_request", "the header %s must be *, or entity tags in double quotes", header)
}

// Check refuses with precondition_failed unless c is met by an entry with that tag, "" for one that does
// not exist.
func (c Condition) Check(tag string) error {
	exists := tag != ""
	if m := c.match; m != nil && !(exists && (m.any || slices.Contains(m.tags, tag))) { // a weak tag never matches
		if !exists {
			return refusal.New("precondition_failed", "the entry does not exist: If-Match needs one that does")
		}
		return refusal.New("precondition_failed", "the entry has changed: its tag is none of If-Match; read it again")
	}
	// The comparison of If-None-Match is weak, and our tags are strong.
	if m := c.noneMatch; m != nil && exists && (m.any || slices.Contains(m.tags, tag) || slices.Contains(m.tags, "W/"+tag)) {
		return refusal.New("precondition_failed", "the entry exists, which If-None-Match excludes")
	}
	return nil
}

// CheckAll checks all conditions.
func CheckAll(conditions []Condition, tag string) error {
	for _, c := range conditions {
		if err := c.Check(tag); err != nil {
			return err
		}
	}
	return nil
}
