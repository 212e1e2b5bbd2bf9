package audit

import "testing"

// TestPromisesHoldWhereFunctionsRunAgain: some tests of this package on a store that discards runs. All of them run there
// with KEYMILL_RERUN=1.
func TestPromisesHoldWhereFunctionsRunAgain(t *testing.T) {
	t.Setenv("KEYMILL_RERUN", "1")
	for name, test := range map[string]func(*testing.T){
		"TestTheChainKeepsTheOrder":           TestTheChainKeepsTheOrder,
		"TestTailAndLast":                     TestTailAndLast,
		"TestACrashBetweenPagesLosesNoRecord": TestACrashBetweenPagesLosesNoRecord,
		"TestTwoChainsMissNoRecord":           TestTwoChainsMissNoRecord,
		"TestTheHolderOfTheLeaseChains":       TestTheHolderOfTheLeaseChains,
		"TestAHolderThatWakesKeepsTheChain":   TestAHolderThatWakesKeepsTheChain,
		"TestWhatWasWrittenIsRememberedOnce":  TestWhatWasWrittenIsRememberedOnce,
	} {
		t.Run(name, test)
	}
}
