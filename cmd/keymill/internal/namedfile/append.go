package namedfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Append opens the regular file at path to read it and to write at its end. It makes the file with mode 0600 if
// it is missing; its directory must exist. A symbolic link at path itself is not followed: any user who can write in
// the directory would choose the file that the server writes to.
func Append(path string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY
	f, err := os.OpenFile(path, flags, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s is a symbolic link, which is not followed", path)
	case errors.Is(err, unix.EISDIR):
		return nil, fmt.Errorf("%s is a directory, not a file", path)
	case errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%s is a socket or a device without a driver, not a file", path)
	case err != nil:
		return nil, Denied(Need{path, ToWrite}, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
