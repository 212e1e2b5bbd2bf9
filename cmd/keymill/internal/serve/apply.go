package serve

import (
	"context"
	"fmt"

	"keymill/cmd/keymill/internal/apply"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/endpoint/admin"
)

// applyActor is who the audit log names for what the files of the setting apply have changed.
const applyActor = "apply"

// readFiles reads the files of the setting apply. It runs before anything is opened: a file that is wrong
// ends the start, and changes nothing.
func (s *server) readFiles(context.Context) (err error) {
	if s.config.Apply == "" {
		return nil
	}
	if s.files, err = apply.Read(nil, s.config.Apply); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// applyFiles brings the store to what the files say, and prunes nothing. It calls the handlers of the admin
// API, so that there is one implementation. It runs before any listener is served.
func (s *server) applyFiles(ctx context.Context) error {
	if s.files == nil {
		return nil
	}
	// A login endpoint can lack its client until the last step.
	s.applying.Store(true)
	defer s.applying.Store(false)
	ctx = admin.WithActor(ctx, applyActor)
	plan, err := apply.New(ctx, apply.ServerOf(s.endpoints.Admin()), s.files, false)
	if err == nil {
		err = plan.Run(ctx)
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if plan.Changes() {
		s.log.Info("applied the files", "files", s.config.Apply, "changed", len(plan.Steps), "unchanged", plan.Unchanged)
	}
	for _, step := range plan.Steps {
		for _, warning := range step.Warnings {
			s.log.Warn("an applied entry will probably not work as meant", "entry", step.Kind+" "+step.Name, "warning", warning)
		}
	}
	return nil
}

// applyAgain reads and applies the files while the server serves. An error is logged, and the server goes on.
func (s *server) applyAgain() {
	ctx := context.Background()
	err := s.readFiles(ctx)
	if err == nil {
		err = s.applyFiles(ctx)
		s.watchLogins(ctx)
	}
	if err == nil {
		return
	}
	attrs := []any{"error", terminal.Plain(err)}
	if hint := terminal.HintOf(err); hint != "" {
		attrs = append(attrs, "hint", hint)
	}
	s.log.Error("cannot apply the files; the server goes on", attrs...)
}
