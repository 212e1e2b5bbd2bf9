// Package integration_test looks at Keymill from outside. Its own tests read the
// house: which room imports which, and what crosses a wall. The directories below
// drive the real binary:
//
//	counts/     how often a test repeats what must hold, in two tiers
//	server/     starts, asks, stops and kills the binary
//	cli/        the command lines as scripts, one promise each
//	crash/      kill -9 and full disks
//	families/   refresh tokens: a model beside the real thing, histories, storms
//	simplejwt/  our door beside simplejwt's own views, request by request
//	browser/    a page in Chromium, and the cookie that it cannot see
//	verifiers/  our own and those of others: Go, Python, Django, Node, Apache
//	numbers/    how large a store and how busy a server get
//	docs/       what README and docs tell an operator to type
//	pages/      reads those pages
//	bench/      load, against floors measured in the same run
//
// Modules of their own keep what only tests need out of the server's go.mod.
package integration_test
