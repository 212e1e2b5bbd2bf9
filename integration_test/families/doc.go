// Package families tests families of refresh tokens (RFC 9700, section 4.14) in three ways:
//
//	model_test.go      the rules in their shortest form: read this first
//	life_test.go       random lives of families (rapid), compared with the rules after each
//	                   step: logins, rotations, replays, time, restarts, changes of users and
//	                   clients, a restored copy; the real store in a synctest bubble
//	steps_test.go      the steps that concern tokens and the server
//	changes_test.go    the steps that concern users and clients
//	parallel_test.go   50 refreshes of one token at once, with the real binary
//	history_test.go    many clients, kill -9 and SIGTERM, and all requests with their answers
//	checker_test.go    whether some order of those requests, one at a time, has the same answers
//	                   (Porcupine), and histories without such an order
//
// It is a module of its own because of rapid and Porcupine, which no other package needs.
package families
