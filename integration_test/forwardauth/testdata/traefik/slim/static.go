// Package static has what the entry point and the logs need. The original imports every provider.
package static

import (
	"time"

	ptypes "github.com/traefik/paerser/types"
	otypes "github.com/traefik/traefik/v3/pkg/observability/types"
)

// DefaultUDPTimeout is not used.
const DefaultUDPTimeout = 3 * time.Second

// Configuration has nothing that is switched on.
type Configuration struct {
	AccessLog, Metrics *Internals
	Tracing            *Tracing
}

// Internals is never set.
type Internals struct{ AddInternals bool }

// Tracing is never set.
type Tracing struct {
	AddInternals            bool
	ServiceName             string
	SampleRate              float64
	ResourceAttributes      map[string]string
	CapturedRequestHeaders  []string
	CapturedResponseHeaders []string
	SafeQueryParams         []string
	OTLP                    *otypes.OTelTracing
}

// RespondingTimeouts have Traefik's defaults.
type RespondingTimeouts struct{ ReadTimeout, WriteTimeout, IdleTimeout ptypes.Duration }

// SetDefaults is called by Traefik.
func (t *RespondingTimeouts) SetDefaults() {
	t.ReadTimeout, t.IdleTimeout = ptypes.Duration(time.Minute), ptypes.Duration(3*time.Minute)
}

// LifeCycle has Traefik's defaults.
type LifeCycle struct{ RequestAcceptGraceTimeout, GraceTimeOut ptypes.Duration }

// SetDefaults is called by Traefik.
func (l *LifeCycle) SetDefaults() { l.GraceTimeOut = ptypes.Duration(10 * time.Second) }
