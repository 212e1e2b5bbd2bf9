package config

import "keymill/cmd/keymill/internal/terminal"

// checkAuditLog refuses an audit.log that cannot be written for ever: in a missing directory, or at the path of
// something else. Other faults, such as a full disk, end no start: the records wait in the store.
func (c *Config) checkAuditLog() error {
	if c.AuditLog == "" || c.AuditLog == "stderr" {
		return nil
	}
	used := append(c.usedFiles(), usedFile{c.MarkPath(), "the mark of the store"})
	fault := c.ownFileFault(c.AuditLog, used)
	if fault == "" {
		return nil
	}
	return terminal.WithHint(c.SettingError("audit.log", "%s %s", terminal.Printable(c.AuditLog), fault),
		"write stderr, or name a file of its own in a directory that exists, such as /var/log/keymill/audit.log")
}
