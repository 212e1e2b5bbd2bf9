package families

import (
	"flag"
	"strconv"
	"testing"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// TestMain gives rapid its count, unless the command line has one.
func TestMain(m *testing.M) {
	flag.Set("rapid.checks", strconv.Itoa(counts.Of("family-models")))
	flag.Set("rapid.steps", "150")
	flag.Set("rapid.nofailfile", "true")
	server.Main(m)
}
