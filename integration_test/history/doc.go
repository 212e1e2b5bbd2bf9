// Package history checks that a store in PostgreSQL that several nodes share is linearizable:
//
//	model_test.go      a few registers, counters and places, changed by one request at a time
//	callers_test.go    requests of many callers of several open stores, with what they saw
//	history_test.go    connections are cut and the server is restarted while they run. There must be an
//	                   order of all requests, one at a time, in which the model gives the same answers
//	                   (Porcupine)
//	broken_test.go     the same with servers and nodes that are broken on purpose: there must be none
//
// It is a module of its own because of Porcupine.
package history
