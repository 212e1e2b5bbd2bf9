module keymill/integration_test/bench

go 1.26.0

require (
	github.com/julienschmidt/httprouter v1.3.0
	keymill v0.0.0
)

replace keymill => ../..
