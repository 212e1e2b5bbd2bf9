// Package integration_test tests Keymill from outside. Its own tests read the code: which
// package imports which, which types a package exports, which requirement has which tests, and
// whether README and docs name what exists. The directories below run the real binary:
//
//	counts/     how often tests repeat what must hold, in two tiers
//	server/     starts, queries, stops and kills the binary
//	cli/        the command lines as scripts, one promise each
//	crash/      kill -9 and full disks
//	history/    several nodes on one PostgreSQL: histories while connections are cut and it crashes
//	families/   refresh tokens: compared with a model, and histories of many clients
//	simplejwt/  the simplejwt endpoints compared with simplejwt's own views
//	browser/    a page in Chromium, and the cookie that it cannot read
//	verifiers/  verifiers of this and other projects: Go, Python, Django, Node, Apache
//	numbers/    the size of the store and the load of the server, within bounds
//	docs/       the commands of README and docs, run as they are
//	pages/      reads those pages for tests
//	metrics/    size and form of the code
//	bench/      load, compared with a minimum that is measured in the same run
//
// Some directories are separate modules, so that the go.mod of the server does not list dependencies
// that only tests need.
package integration_test
