// Package families holds families of refresh tokens to what the design says about them,
// from three sides:
//
//	model_test.go      the rules, as short as they can be written: read this first
//	life_test.go       random lives of families (rapid), step by step against the rules:
//	                   logins, rotations, replays, time, restarts, changes of users and
//	                   clients, a restored copy; the real store in a synctest bubble
//	steps_test.go      what can happen to tokens and servers in such a life
//	changes_test.go    what can happen to users and clients
//	parallel_test.go   50 refreshes of one token at once, against the real binary
//	history_test.go    many clients, kill -9 and SIGTERM, and what everybody saw
//	checker_test.go    whether one at a time could have seen the same (Porcupine), and
//	                   histories that nobody can have seen
//
// The module is one of its own for the sake of rapid and Porcupine, which nothing else
// needs.
package families
