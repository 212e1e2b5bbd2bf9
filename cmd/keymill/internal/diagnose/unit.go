package diagnose

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// unitName is the name of the server's unit in docs/operate.md.
const unitName = "keymill.service"

// A unit is what the unit files of systemd say about the server, as far as it concerns the
// master key. The files are read because systemd may not run: in a rescue system, in a
// container, or on another machine.
type unit struct {
	path        string                // of the main file; "" if there is none
	environment map[string]string     // Environment= and EnvironmentFile=
	credentials map[string]credential // id → where it comes from
}

// maxUnitBytes is what systemd itself reads of one file at most.
const maxUnitBytes = 1 << 20

// unitDirs returns where units are, the most important directory first, as systemd.unit(5)
// lists them.
func unitDirs() []string {
	usual := []string{
		"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
	}
	own := os.Getenv("SYSTEMD_UNIT_PATH")
	if own == "" {
		return usual
	}
	dirs := strings.Split(own, ":")
	if last := len(dirs) - 1; dirs[last] == "" { // an empty path at the end adds the usual ones
		dirs = append(dirs[:last], usual...)
	}
	return dirs
}

// readUnit reads the main file of the unit and its drop-in files. Without any file the unit is
// empty.
func readUnit(dirs []string) (*unit, error) {
	u := &unit{environment: map[string]string{}, credentials: map[string]credential{}}
	for _, dir := range dirs {
		if path := filepath.Join(dir, unitName); exists(path) {
			u.path = path
			break
		}
	}
	files := dropIns(dirs)
	if u.path != "" {
		files = append([]string{u.path}, files...)
	}
	s := &unitSettings{}
	for _, path := range files {
		raw, err := namedfile.Read(path, maxUnitBytes)
		if err != nil {
			return nil, err
		}
		s.read(string(raw))
	}
	if u.path == "" && len(files) > 0 {
		u.path = files[0]
	}
	return u, u.apply(s)
}

// dropIns returns the files keymill.service.d/*.conf in the order of their names. Of two with
// the same name the one in the more important directory counts.
func dropIns(dirs []string) []string {
	byName := map[string]string{}
	for _, dir := range slices.Backward(dirs) {
		found, _ := filepath.Glob(filepath.Join(dir, unitName+".d", "*.conf"))
		for _, path := range found {
			byName[filepath.Base(path)] = path
		}
	}
	var list []string
	for _, path := range byName {
		list = append(list, path)
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	return list
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// unitSettings are lines of section [Service], in the order of the files. An empty value
// removes the earlier ones, as in systemd.
type unitSettings struct {
	environment []string // words of Environment=
	files       []string // EnvironmentFile=
	credentials []unitCredential
}

// A unitCredential is one line, id:path or id:value.
type unitCredential struct {
	set, encrypted bool
	text           string
}

func (s *unitSettings) read(text string) {
	section := ""
	for _, line := range unitLines(text) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if section == "[Service]" {
			s.set(strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
}

func (s *unitSettings) set(key, value string) {
	switch key {
	case "Environment":
		if value == "" {
			s.environment = nil
		}
		s.environment = append(s.environment, unitWords(value)...)
	case "EnvironmentFile":
		if s.files = append(s.files, value); value == "" {
			s.files = nil
		}
	case "ImportCredential": // a pattern of names, which systemd looks for in its own directories
		if found, err := path.Match(value, config.MasterKeyCredential); found && err == nil {
			s.credentials = append(s.credentials, unitCredential{text: config.MasterKeyCredential})
		}
	case "LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted":
		c := unitCredential{strings.HasPrefix(key, "Set"), strings.HasSuffix(key, "Encrypted"), value}
		if value == "" {
			s.credentials = slices.DeleteFunc(s.credentials, func(o unitCredential) bool { return o.set == c.set })
			return
		}
		s.credentials = append(s.credentials, c)
	}
}

// apply reads the environment files, which win over Environment=, and the credentials, of
// which those that are loaded win over those that are set.
func (u *unit) apply(s *unitSettings) error {
	for _, assignment := range s.environment {
		name, value, _ := strings.Cut(assignment, "=")
		u.environment[name] = expand(value)
	}
	for _, path := range s.files {
		raw, err := namedfile.Read(expand(strings.TrimPrefix(path, "-")), maxUnitBytes)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(path, "-") {
			continue
		} else if err != nil {
			return err
		}
		for _, line := range unitLines(string(raw)) {
			name, value, _ := strings.Cut(line, "=")
			u.environment[strings.TrimSpace(name)] = strings.Join(unitWords(value), " ")
		}
	}
	for _, c := range s.credentials {
		id, text, given := strings.Cut(c.text, ":")
		known, ok := u.credentials[id]
		switch {
		case c.set && ok && known.path != "":
		case c.set:
			u.credentials[id] = credential{encrypted: c.encrypted}
		case !given:
			u.credentials[id] = credential{id, c.encrypted}
		default:
			u.credentials[id] = credential{expand(text), c.encrypted}
		}
	}
	return nil
}

// expand replaces the specifiers of systemd.unit(5) that a path of a system unit can have.
func expand(text string) string {
	return strings.NewReplacer(
		"%%", "%", "%E", "/etc", "%S", "/var/lib", "%t", "/run", "%C", "/var/cache", "%L", "/var/log",
		"%n", unitName, "%N", strings.TrimSuffix(unitName, ".service"), "%p", strings.TrimSuffix(unitName, ".service"),
	).Replace(text)
}

// unitLines returns the lines of a unit file without comments and empty lines. A backslash at
// the end of a line continues it.
func unitLines(text string) []string {
	if decoded, err := terminal.DecodeText([]byte(text)); err == nil {
		text = string(decoded)
	}
	var lines []string
	begun := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if head, continues := strings.CutSuffix(line, `\`); continues {
			begun += head + " "
			continue
		}
		if line = strings.TrimSpace(begun + line); line != "" {
			lines = append(lines, line)
		}
		begun = ""
	}
	return lines
}

// unitWords splits a value at white space. Quotes keep white space.
func unitWords(value string) []string {
	var words []string
	var word strings.Builder
	quote, begun := rune(0), false
	for _, r := range value {
		switch {
		case quote == 0 && (r == '"' || r == '\''):
			quote, begun = r, true
		case r == quote:
			quote = 0
		case quote == 0 && (r == ' ' || r == '\t'):
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}
