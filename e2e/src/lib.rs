//! The cluster, the scenarios and the benchmarks that prove rorun-operator.
