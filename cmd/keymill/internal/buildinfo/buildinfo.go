// Package buildinfo says from which source, with which Go release and for which platform a program was built.
package buildinfo

import (
	"runtime"
	"runtime/debug"
)

// A Build is what the command version prints.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`           // commit of the source; "" if the build did not record it
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the source differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Read returns the build of this program, with the version that it has.
func Read(version string) Build {
	b := Build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String returns one line, such as "keymill 0.1.0 (go1.26.8, linux/amd64, commit 0c51… of 2026-11-28T09:14:02Z)".
func (b Build) String() string {
	line := "keymill " + b.Version + " (" + b.Go + ", " + b.Platform
	if b.Revision != "" {
		line += ", commit " + b.Revision
	}
	if b.Time != "" {
		line += " of " + b.Time
	}
	if b.Modified {
		line += ", modified"
	}
	return line + ")\n"
}
