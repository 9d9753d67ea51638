//! Schemas that are not dumped: by their exact names, whatever characters these have.

use rorun_operator::agent::Manifest;
use rorun_operator::contract::{self, DUMP_FILE, MANIFEST_FILE};

use crate::scenario::Scenario;

const SCHEMAS: &str = "SELECT string_agg(nspname, '|' ORDER BY nspname COLLATE \"C\") FROM pg_namespace \
                       WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'";

#[tokio::test]
async fn only_the_schemas_of_these_names_are_left_out() {
    let scenario = Scenario::new("schemas").await;
    let names = ["Vault", "a*", "ab", "q\"x", "vault", "vault.old"];
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        scenario.sql(&format!("CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.t (n int)")).await;
    }
    let mut command = scenario.command();
    for name in ["vault", "a*", "q\"x", "no-such-schema"] {
        command.arg(format!("{}={name}", contract::ARG_EXCLUDE_SCHEMA));
    }
    let record = scenario.run(command).await.complete();
    let get = async |file: &str| {
        let key = format!("{}{}/{file}", scenario.prefix, record.id);
        scenario.bucket.get(&key).await.expect("get").expect("an object")
    };
    let manifest: Manifest = serde_json::from_slice(&get(MANIFEST_FILE).await).expect("manifest");
    assert_eq!(manifest.excluded_schemas, ["vault", "a*", "q\"x", "no-such-schema"]);
    let restored = scenario.restore(&get(DUMP_FILE).await).await;
    assert_eq!(scenario.sql_in(&restored, SCHEMAS).await, "Vault|ab|public|vault.old");
}

/// A schema that the user may not read fails every backup until it is left out.
#[tokio::test]
async fn a_schema_that_may_not_be_read_is_left_out() {
    let scenario = Scenario::new("unreadable-schema").await;
    let tables = "CREATE SCHEMA vault; CREATE TABLE vault.k (n int); CREATE TABLE receipts (n int)";
    let role = "CREATE ROLE narrow LOGIN PASSWORD 'narrow'; GRANT SELECT ON receipts TO narrow";
    scenario.sql(&format!("{tables}; {role}")).await;
    let url = format!("postgres://narrow:narrow@127.0.0.1:{}/unreadable-schema", scenario.servers.postgres_port);
    let command = || {
        let mut command = scenario.command();
        command.env(contract::ENV_DATABASE_URL, &url);
        command
    };
    let message = scenario.failure(command()).await;
    assert!(message.contains("permission denied for ") && message.contains("backup.excludeSchemas"), "{message}");
    let mut excluding = command();
    excluding.arg(format!("{}=vault", contract::ARG_EXCLUDE_SCHEMA));
    scenario.run(excluding).await.complete();
}
