// The definitions that other projects publish, for tests: nothing is built of these modules.
module github.com/rorun/rorun-operator/e2e/tools/schemas

go 1.26.0

require (
	github.com/cloudnative-pg/cloudnative-pg v1.30.0
	github.com/cloudnative-pg/plugin-barman-cloud v0.14.0
	github.com/prometheus-operator/prometheus-operator v0.93.0
)
