module keymill/integration_test/openapi

go 1.26.0

replace keymill => ../..

require (
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	keymill v0.0.0
)

require (
	github.com/ebitengine/purego v0.11.3 // indirect
	github.com/go-jose/go-jose/v4 v4.1.8 // indirect
	golang.org/x/crypto v0.59.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sync v0.25.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/text v0.44.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)
