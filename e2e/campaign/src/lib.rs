//! The fault campaign: the operator as its image has it, a real API server, and between them a proxy that lets one thing go
//! wrong at a time. Each run is compared with runs in which nothing goes wrong. The benchmarks use the same API server.

mod bench;
mod broken;
mod bucket;
mod canary;
mod candidate;
pub mod cli;
mod endpoint;
mod environment;
mod fleet;
mod gate;
mod history;
mod jobs;
mod live_data;
mod past;
mod plan;
mod play;
mod proxy;
mod relay;
mod seeds;
mod snapshot;
mod stack;
mod streams;
mod suite;
mod suites;
mod sync;
mod test_context;
mod workload;
