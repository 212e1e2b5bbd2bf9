package serve

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/audit"
)

// Audit records about the server itself:
//
//	server.start     version, Go release, process, address; damage of the audit log
//	server.settings  effective settings, no secrets; as many records as they need
//	server.reload    what SIGHUP changed
//	server.stop      the signal or the fault
//
// A server that was killed leaves no server.stop: the next record about it is a server.start.

// recordTime bounds how long one record may wait for the store.
const recordTime = 2 * time.Second

// record writes events in one transaction, in their order. A record that cannot be written, for
// example on a full disk, is logged, and the server goes on: these records decide nothing. After the end of the store the server
// says why it stops, and nothing of records. On a store that several servers share, each has the id of the server.
func (s *server) record(events ...audit.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	now := s.rings.Now()
	if id := s.nodes.ID(); id != "" {
		for i, e := range events {
			events[i].Detail = maps.Clone(e.Detail)
			events[i].Detail["node"] = id
		}
	}
	err := s.store.Update(ctx, func(tx storage.Tx) error {
		for i, e := range events {
			// Records of the same time have no order among them.
			if err := audit.Append(tx, now.Add(time.Duration(i)), e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !storage.Ended(s.store, err) {
		s.log.Warn("cannot write an audit record", "action", events[0].Action, "error", terminal.Plain(err))
	}
}

// recordStart records the start before a request is answered.
func (s *server) recordStart() {
	detail := map[string]string{
		"version": s.version, "go": runtime.Version(), "pid": strconv.Itoa(os.Getpid()), "uid": strconv.Itoa(os.Getuid()),
		"listen": s.public.Addr().String(), "dev": strconv.FormatBool(s.config.Dev),
	}
	if damage := s.watch.damage(); damage != "" {
		detail["audit"] = damage
	}
	events := []audit.Event{{Action: "server.start", By: "system", Detail: detail}}
	for _, part := range settingParts(s.config.Effective()) {
		events = append(events, audit.Event{Action: "server.settings", By: "system", Detail: part})
	}
	s.record(events...)
	s.recording.Store(true)
}

// Bounds of one record of settings. Package audit cuts what is longer.
const (
	maxPartSettings = 20
	maxPartBytes    = 1500
)

// settingParts divides the settings among records. Only a single value that is too long for a
// record is cut.
func settingParts(settings []config.EffectiveSetting) []map[string]string {
	var parts []map[string]string
	size := 0
	for _, e := range settings {
		n := len(strconv.QuoteToASCII(e.Key)) + len(strconv.QuoteToASCII(e.Value))
		if last := len(parts) - 1; last < 0 || len(parts[last]) == maxPartSettings || size+n > maxPartBytes {
			parts, size = append(parts, map[string]string{}), 0
		}
		parts[len(parts)-1][e.Key] = e.Value
		size += n
	}
	return parts
}

// recordReload records the settings that SIGHUP applied, and those that need a restart.
func (s *server) recordReload(level string, changed, waiting []string) {
	if s.recording.Load() {
		s.record(audit.Event{Action: "server.reload", By: "system", Detail: map[string]string{
			"log.level": level, "changed": strings.Join(changed, " "), "need_restart": strings.Join(waiting, " "),
		}})
	}
}

// recordStop records why the server stops, and chains what waits, so that a copy of the store
// has it. After a failure of the store nothing can be written.
func (s *server) recordStop(ctx context.Context, fault error) {
	if s.store.Status().Failed != nil {
		return
	}
	reason := fault
	if reason == nil {
		reason = context.Cause(ctx)
	}
	s.record(audit.Event{Action: "server.stop", By: "system", Detail: map[string]string{
		"version": s.version, "pid": strconv.Itoa(os.Getpid()), "reason": fmt.Sprint(reason),
	}})
	s.recording.Store(false)
	bounded, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	audit.Chain(bounded, s.store) // an error leaves the records for the next start
}
