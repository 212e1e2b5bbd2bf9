module keymill/integration_test/cluster

go 1.26.0

require keymill v0.0.0

replace keymill => ../..
