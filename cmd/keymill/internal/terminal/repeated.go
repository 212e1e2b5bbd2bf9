package terminal

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// AsRepeated suggests to repeat a flag whose value looks like a list, "" if it does not.
func AsRepeated(flag, value string) string {
	words := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	if len(words) == 0 || len(words) == 1 && words[0] == value {
		return ""
	}
	hint := "did you mean more than one?"
	if len(words) == 1 {
		hint = "did you mean"
	}
	for _, word := range words {
		hint += " --" + flag + " " + ShellWord(word)
	}
	return hint
}

// IsTerminal reports whether in is a terminal, where a person types.
func IsTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
