package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A setting is one field of config. Its name in the file, its environment variable, its
// defaults and its help are all read from the field's tags, so none can be forgotten.
type setting struct {
	key   string // "keys.rotate_every"
	index int    // of the field
	def   string // default
	dev   string // default with --dev, where it differs
	help  string
}

// settings lists every setting in the order of config's fields.
func settings() []setting {
	t := reflect.TypeFor[config]()
	var list []setting
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		if key, ok := tag.Lookup("key"); ok {
			list = append(list, setting{key, i, tag.Get("default"), tag.Get("dev"), tag.Get("help")})
		}
	}
	return list
}

// env returns the setting's environment variable.
func (s setting) env() string {
	return "KEYMILL_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// A value is what a file, a variable or a flag says, before it is understood.
type value struct {
	texts []string
	list  bool // written as a list
}

// textValue splits a variable's text: lists are written with commas there.
func (s setting) textValue(c *config, text string) value {
	switch s.field(c).(type) {
	case *[]string, *[]netip.Prefix:
		if text == "" {
			return value{list: true}
		}
		return value{texts: strings.Split(text, ","), list: true}
	}
	return value{texts: []string{text}}
}

func (s setting) field(c *config) any {
	return reflect.ValueOf(c).Elem().Field(s.index).Addr().Interface()
}

// set understands v and puts it into c. The error says what would be right.
func (s setting) set(c *config, v value) error {
	switch p := s.field(c).(type) {
	case *[]string:
		return setList(p, v, func(text string) (string, error) { return text, nil })
	case *[]netip.Prefix:
		return setList(p, v, parsePrefix)
	case *string:
		return setOne(p, v, func(text string) (string, error) { return text, nil })
	case *bool:
		return setOne(p, v, parseBool)
	case *time.Duration:
		return setOne(p, v, parseDuration)
	case *slog.Level:
		return setOne(p, v, parseLevel)
	default:
		return fmt.Errorf("setting of type %T cannot be read", p)
	}
}

func setOne[T any](into *T, v value, parse func(string) (T, error)) error {
	if v.list || len(v.texts) != 1 {
		return fmt.Errorf("takes one value, not a list")
	}
	parsed, err := parse(v.texts[0])
	if err == nil {
		*into = parsed
	}
	return err
}

func setList[T any](into *[]T, v value, parse func(string) (T, error)) error {
	if !v.list {
		return fmt.Errorf("takes a list: [%s]", strings.Join(v.texts, ", "))
	}
	var list []T
	for _, text := range v.texts {
		parsed, err := parse(strings.TrimSpace(text))
		if err != nil {
			return err
		}
		list = append(list, parsed)
	}
	*into = list
	return nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", text)
}

// parseDuration reads what Go reads, and days before it: "90s", "12h", "30d", "1d12h".
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration like 30s, 15m, 12h or 30d", text)
	var total time.Duration
	rest := text
	if days, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, bad
		}
		total, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || total+d < total {
		return 0, bad
	}
	return total + d, nil
}

func parseLevel(text string) (slog.Level, error) {
	var level slog.Level
	switch text {
	case "debug", "info", "warn", "error":
		return level, level.UnmarshalText([]byte(text))
	}
	return level, fmt.Errorf("%q is none of debug, info, warn and error", text)
}

// parsePrefix reads a network, or one address as the network of itself. An IPv4 network
// in its IPv6 form holds no address that a peer is compared as, so it is refused.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, notAddr := netip.ParseAddr(text); notAddr == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err == nil && p.Addr().Is4In6():
		return p, fmt.Errorf("%q is IPv4 written as IPv6, which matches no peer; write it like 10.0.0.0/8 or 10.0.0.1", text)
	case err != nil:
		return p, fmt.Errorf("%q is not a network like 10.0.0.0/8, nor an address", text)
	}
	return p.Masked(), nil
}
