module keymill/integration_test/cli

go 1.26.0

require (
	github.com/rogpeppe/go-internal v1.16.0
	keymill v0.0.0
)

require (
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/tools v0.26.0 // indirect
)

replace keymill => ../..
