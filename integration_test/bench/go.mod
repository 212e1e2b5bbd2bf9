module keymill/integration_test/bench

go 1.26.0

require (
	github.com/julienschmidt/httprouter v1.3.0
	go.etcd.io/bbolt v1.5.0
	keymill v0.0.0
)

require golang.org/x/sys v0.50.0 // indirect

replace keymill => ../..
