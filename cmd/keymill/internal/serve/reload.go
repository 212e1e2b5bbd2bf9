package serve

import (
	"log/slog"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// A reload applies these settings, and reads these files again:
//
//	log.level
//	http.trusted_proxies
//	webhook.secret_file           the secret in it, or in the credential; not one in a variable or a pipe
//	tls.cert_file, tls.key_file   the files, if the server speaks TLS
//
// It also applies the files of the setting apply again.
//
// Everything is read and checked before anything changes, so a reload applies all of it or nothing. Every
// other setting needs a restart: the store, the keys and the listener depend on it.

// A step is one part of a reload that is ready to be applied.
type step struct {
	keys []string // settings that it applies
	use  func()
}

// reload reads the configuration again and applies what can change while the server runs.
func (s *server) reload(read func() (*config.Config, error)) {
	next, err := read()
	var steps []step
	if err == nil {
		steps, err = s.prepare(next)
	}
	if err != nil {
		attrs := []any{"error", terminal.Plain(err)}
		if hint := terminal.HintOf(err); hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		s.log.Error("cannot read the configuration again; no setting changes", attrs...)
		return
	}
	before := s.level.Level()
	s.level.Set(next.LogLevel)
	applied := []string{"log.level"}
	for _, step := range steps {
		step.use()
		applied = append(applied, step.keys...)
	}
	s.settings.replace(next, applied)
	s.logReload(next, before, applied)
	s.applyAgain()
}

// logReload logs and records what has changed since the last reload, and what waits for a restart.
func (s *server) logReload(next *config.Config, before slog.Level, applied []string) {
	isApplied := func(key string) bool { return slices.Contains(applied, key) }
	waiting := slices.DeleteFunc(s.config.Changed(next), isApplied)
	used := slices.DeleteFunc(s.reloaded().Changed(next), func(key string) bool { return !isApplied(key) })
	s.last = next

	level := strings.ToLower(next.LogLevel.String())
	attrs := []any{"log_level", level}
	if len(used) > 0 {
		attrs = append(attrs, "changed", strings.Join(used, " "))
	}
	// The lines are visible at the old level or at the new one.
	log := slog.New(newHandler(s.config.LogFormat, min(before, next.LogLevel), s.queue))
	log.Info("read the configuration again", attrs...)
	if len(waiting) > 0 {
		log.Warn("changed settings need a restart", "settings", strings.Join(waiting, " "))
	}
	s.recordReload(level, used, waiting)
}

// reloaded returns the configuration of the last reload, or that of the start.
func (s *server) reloaded() *config.Config {
	if s.last != nil {
		return s.last
	}
	return s.config
}

// prepare reads and checks what next names, and changes nothing.
func (s *server) prepare(next *config.Config) ([]step, error) {
	steps := []step{{[]string{"http.trusted_proxies"}, func() { s.endpoints.SetTrustedProxies(next.TrustedProxies) }}}
	// A secret for another URL must not sign what is sent to the URL of the start.
	if s.webhook != nil && next.WebhookURL == s.config.WebhookURL {
		secret, err := next.WebhookSecretAgain(s.secret)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{[]string{"webhook.secret_file"}, func() {
			s.webhook.SetSecret(secret) // it was checked when it was read
			if secret != s.secret {
				s.log.Info("the webhook has another secret")
			}
			s.secret = secret
		}})
	}
	if s.tls != nil && next.UsesTLS() {
		use, err := s.tls.Prepare(next)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{[]string{"tls.cert_file", "tls.key_file"}, use})
	}
	return steps, nil
}
