package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A Setting describes one field of Config, as the field's tags say.
type Setting struct {
	Key        string // in the file: "keys.rotate_every"
	Default    string // "" if there is none
	DevDefault string // default with --dev, "" where it is Default
	Help       string // what the setting means

	index int // of the field
}

// Settings returns every setting, in the order of Config's fields.
func Settings() []Setting {
	t := reflect.TypeFor[Config]()
	var list []Setting
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		if key, ok := tag.Lookup("key"); ok {
			list = append(list, Setting{key, tag.Get("default"), tag.Get("dev"), tag.Get("help"), i})
		}
	}
	return list
}

// Variable returns the setting's environment variable: KEYMILL_KEYS_ROTATE_EVERY.
func (s Setting) Variable() string {
	return "KEYMILL_" + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// A value is the text of a setting in a file, a variable or a flag, not parsed yet.
type value struct {
	texts []string
	list  bool // written as a list
}

// textValue splits the text of a variable or a flag: lists are written with commas there.
func (s Setting) textValue(c *Config, text string) value {
	switch s.field(c).(type) {
	case *[]string, *[]netip.Prefix:
		if text == "" {
			return value{list: true}
		}
		return value{texts: strings.Split(text, ","), list: true}
	}
	return value{texts: []string{text}}
}

func (s Setting) field(c *Config) any {
	return reflect.ValueOf(c).Elem().Field(s.index).Addr().Interface()
}

// Changed returns the keys of the settings that have other values in next, in the order of the
// fields. 24h and 1d are the same value.
func (c *Config) Changed(next *Config) []string {
	var keys []string
	for _, s := range Settings() {
		if !reflect.DeepEqual(s.field(c), s.field(next)) {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// set parses v and puts it into c.
func (s Setting) set(c *Config, v value) error {
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
		return setOne(p, v, ParseDuration)
	case *int:
		return setOne(p, v, parseCount)
	case *slog.Level:
		return setOne(p, v, parseLevel)
	default:
		return fmt.Errorf("setting of type %T cannot be read", p)
	}
}

func setOne[T any](into *T, v value, parse func(string) (T, error)) error {
	if v.list || len(v.texts) != 1 {
		return fmt.Errorf("one value is expected, not a list")
	}
	parsed, err := parse(v.texts[0])
	if err == nil {
		*into = parsed
	}
	return err
}

func setList[T any](into *[]T, v value, parse func(string) (T, error)) error {
	if !v.list {
		return fmt.Errorf("a list is expected: [%s]", strings.Join(v.texts, ", "))
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

func parseCount(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	return int(n), nil
}

// ParseDuration reads what time.ParseDuration reads, and days in front of it: "90s",
// "12h", "30d", "1d12h". A negative duration is an error.
func ParseDuration(text string) (time.Duration, error) {
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

// durationText writes a duration as it is written in settings: 10m and 30d, not 10m0s and 720h0m0s.
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func parseLevel(text string) (slog.Level, error) {
	var level slog.Level
	switch text {
	case "debug", "info", "warn", "error":
		return level, level.UnmarshalText([]byte(text))
	}
	return level, fmt.Errorf("%q is not debug, info, warn or error", text)
}

// parsePrefix reads a network. A single address is the network of that address alone. An
// IPv4 network in IPv6 form is refused: peers are compared as IPv4, so it would match none.
func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, notAddr := netip.ParseAddr(text); notAddr == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err == nil && p.Addr().Is4In6():
		return p, fmt.Errorf("%q is IPv4 written as IPv6, which matches no peer; write it like 10.0.0.0/8 or 10.0.0.1", text)
	case err != nil:
		return p, fmt.Errorf("%q is neither a network like 10.0.0.0/8 nor an address", text)
	}
	return p.Masked(), nil
}
