package families

import (
	"flag"
	"strconv"
	"testing"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// TestMain sets the number of rapid's checks. A flag on the command line has priority.
func TestMain(m *testing.M) {
	flag.Set("rapid.checks", strconv.Itoa(counts.Of("family-models")))
	flag.Set("rapid.steps", "150")
	flag.Set("rapid.nofailfile", "true")
	server.Main(m)
}
