package enginetest

import (
	"testing"

	"keymill/storage/optimistic"
)

func TestConformance(t *testing.T) {
	Run(t, func(t *testing.T) optimistic.Engine { return NewDatabase().Open(Faults{}) })
}
