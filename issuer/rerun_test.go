package issuer

import "testing"

// TestPromisesHoldWhereFunctionsRunAgain: some tests of this package on a store that discards runs. All of them run there
// with KEYMILL_RERUN=1.
func TestPromisesHoldWhereFunctionsRunAgain(t *testing.T) {
	t.Setenv("KEYMILL_RERUN", "1")
	for name, test := range map[string]func(*testing.T){
		"TestAFormerNameSelectsAllRecordsOfItsUser":   TestAFormerNameSelectsAllRecordsOfItsUser,
		"TestDamageIsReportedOnceAfterTheTransaction": TestDamageIsReportedOnceAfterTheTransaction,
		"TestAReplayEndsTheSessionAndItsAccessTokens": TestAReplayEndsTheSessionAndItsAccessTokens,
		"TestALoginBeginsASession":                    TestALoginBeginsASession,
		"TestParallelLoginsKeepTheLimit":              TestParallelLoginsKeepTheLimit,
		"TestUsersAreAddedShownChangedAndRemoved":     TestUsersAreAddedShownChangedAndRemoved,
		"TestTheCleanUpSetsDamageAside":               TestTheCleanUpSetsDamageAside,
		"TestFiftyParallelRefreshesHaveOneSuccessor":  TestFiftyParallelRefreshesHaveOneSuccessor,
	} {
		t.Run(name, test)
	}
}
