//! The runtime against a real API server, without stacks: the election, and a controller of another type.

mod leader;
mod second_resource;

use std::{path::Path, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use rorun_e2e::engine::TestServer;
use rorun_operator::telemetry::Metrics;

/// The name of the API server in metrics.
const HOST: &str = "api-server";
/// The longest that a test waits for anything.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// One API server for all.
#[tokio::test]
async fn the_runtime_at_a_real_api_server() {
    let server = tokio::task::spawn_blocking(TestServer::start).await.expect("a thread").expect("an API server");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let client = client(&server.kubeconfig, &metrics).await;
    tokio::join!(
        leader::leases_at_a_real_api_server(&client, &metrics),
        second_resource::another_type_costs_its_reconciler_and_one_line(&client),
    );
}

async fn client(kubeconfig: &Path, metrics: &Metrics) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    config.default_retry = false;
    ClientBuilder::try_from(config).expect("a client").with_layer(&metrics.request_layer(HOST)).build()
}
