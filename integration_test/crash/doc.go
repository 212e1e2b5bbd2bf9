// Package crash tests what survives when a running server is killed with kill -9 at a bad moment,
// when its disk is full, and when the disk fails. What the server acknowledged before must hold
// afterwards. The kernel's page cache survives a kill, so these tests do not cover a loss of
// power. The tests of storage/bolt check when data is synced.
//
// It also changes closed stores, as damage does and as an attacker who can write the store and does not
// have its master key:
//
//	lived_test.go      a store with records of every kind, and what its server acknowledged
//	mutations_test.go  the changes: bits, records, pages, and older ones of each
//	judge_test.go      starts the server on a changed store and judges what it does
//	mutants_test.go    many changes, and the table
//	planted_test.go    programs with a check removed, which the changes must find
//	masterkey_test.go  a master key change that is cut after each write
//	case_test.go       a change that the server failed, kept to be judged alone
//
// The harness exempts one damaged record, audit/head, from the rule that damage is not written over: it
// follows from the records of the log, and the server writes it again.
package crash
