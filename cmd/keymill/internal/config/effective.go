package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An EffectiveSetting is a setting with the value that the server uses, and where it came from.
type EffectiveSetting struct {
	Key, Value string
	Source     string // "/etc/keymill.yaml:3", "KEYMILL_LISTEN", "--listen", "default" or "default with --dev"; see Config.origin
}

// Effective returns every setting, in the order of the fields, with its value as a variable has
// it. No value is a secret: the path and the query of webhook.url may be one of the receiver,
// so only its host is shown.
func (c *Config) Effective() []EffectiveSetting {
	var list []EffectiveSetting
	for _, s := range Settings() {
		value := s.text(c)
		if s.Key == "webhook.url" {
			value = hostOnly(value)
		}
		list = append(list, EffectiveSetting{s.Key, value, c.origin(s, value)})
	}
	return list
}

// origin returns where the value of a setting came from. A secret can be in another place than the file that a
// setting names: then that setting is empty, and the origin is the place.
func (c *Config) origin(s Setting, value string) string {
	where, place := c.source[s.Key], c.secretsIn[s.Key]
	switch {
	case value == "" && place != "":
		return place
	case where != "":
		return where
	case c.Dev && s.Key == masterKeySetting:
		return c.Path(trialMasterKey)
	case c.Dev && (s.DevDefault != "" || s.Key == "issuer"): // the issuer follows listen
		return "default with --dev"
	}
	return "default"
}

// notShown stands for a value whose type may hold a secret.
const notShown = "[not shown]"

func (s Setting) text(c *Config) string {
	switch p := s.field(c).(type) {
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, ",")
	case *[]netip.Prefix:
		var texts []string
		for _, prefix := range *p {
			texts = append(texts, prefix.String())
		}
		return strings.Join(texts, ",")
	case *bool:
		return strconv.FormatBool(*p)
	case *time.Duration:
		return durationText(*p)
	case *int:
		return strconv.Itoa(*p)
	case *slog.Level:
		return strings.ToLower(p.String())
	}
	return notShown
}

// hostOnly replaces all of a URL that follows its host.
func hostOnly(text string) string {
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return notShown
	}
	shown := u.Scheme + "://" + u.Host
	if u.Path != "" || u.RawQuery != "" {
		shown += "/..."
	}
	return shown
}
