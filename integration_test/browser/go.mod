module keymill/integration_test/browser

go 1.26.0

require keymill v0.0.0

require golang.org/x/net v0.62.0 // indirect

replace keymill => ../..
