//! Points whose dump is encrypted.

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use rorun_operator::contract::{self, RestoreRefusal, RestoreStep};

use super::{ROWS, Restore, Step};
use crate::scenario::Scenario;

impl Scenario {
    /// A table with so many rows, and a dump of it that is encrypted.
    async fn sealed_point(&self, rows: u32, identity: &Identity) -> String {
        self.sql(&format!("CREATE TABLE receipts AS SELECT n FROM generate_series(1, {rows}) n")).await;
        let mut dump = self.command();
        dump.args([contract::ARG_RECIPIENT, &identity.to_public().to_string()]);
        self.run(dump).await.complete().id
    }
}

impl Restore<'_> {
    async fn run_with(&self, step: RestoreStep, identity: &Identity) -> Step {
        let text = identity.to_string().expose_secret().to_owned();
        let mut command = self.command(step, &[]);
        command.env(contract::ENV_IDENTITY, format!("# a key\n{text}\n"));
        let step = self.run_during(command, async |_| {}).await;
        assert!(!format!("{step:?}").contains("AGE-SECRET-KEY"), "{step:?}");
        step
    }
}

#[tokio::test]
async fn a_sealed_point_is_restored_with_its_identity() {
    let scenario = Scenario::new("sealed").await;
    let identity = Identity::generate();
    let point = scenario.sealed_point(9, &identity).await;
    let restore = Restore::of(&scenario, &point);
    for step in [RestoreStep::Check, RestoreStep::Copy, RestoreStep::Fill] {
        let (reason, message) = restore.refused(step, &[]).await;
        assert_eq!(reason, RestoreRefusal::PointEncrypted, "{step:?}: {message}");
        assert!(message.contains("backup.identitySecretRef"), "{message}");
        let (reason, message) = restore.run_with(step, &Identity::generate()).await.refused();
        // A database that is not empty is found before the dump is opened.
        let expected =
            if step == RestoreStep::Fill { RestoreRefusal::DataFound } else { RestoreRefusal::PointEncrypted };
        assert_eq!(reason, expected, "{step:?}: {message}");
    }
    assert!(!scenario.exists(&restore.copy()).await, "nothing is left of a copy that cannot be made");
    scenario.sql("DELETE FROM receipts").await;
    restore.run_with(RestoreStep::Check, &identity).await.done();
    let copied = restore.run_with(RestoreStep::Copy, &identity).await.done();
    assert_eq!((copied.rows, scenario.sql_in(&restore.copy(), ROWS).await.as_str()), (Some(9), "9"));
    // The steps after it have no identity, and need none.
    restore.done(RestoreStep::Verify).await;
    restore.done(RestoreStep::Switch).await;
    assert_eq!(scenario.sql(ROWS).await, "9");
}

#[tokio::test]
async fn a_sealed_point_fills_an_empty_database() {
    let scenario = Scenario::new("sealed-fill").await;
    let identity = Identity::generate();
    let point = scenario.sealed_point(9, &identity).await;
    scenario.sql_in("postgres", "CREATE DATABASE \"sealed-fill-into\"").await;
    let mut restore = Restore::of(&scenario, &point);
    restore.url = scenario.servers.database_url("sealed-fill-into");
    let (reason, message) = restore.run_with(RestoreStep::Fill, &Identity::generate()).await.refused();
    assert_eq!(reason, RestoreRefusal::PointEncrypted, "{message}");
    assert!(message.contains("is none of its recipients"), "{message}");
    assert_eq!(restore.run_with(RestoreStep::Fill, &identity).await.done().rows, Some(9));
    assert_eq!(scenario.sql_in("sealed-fill-into", ROWS).await, "9");
}

/// In the header, in the middle, and swapped with another's: the checksum of what is in the bucket tells, whatever `age` makes of it.
#[tokio::test]
async fn a_sealed_point_that_was_changed_is_not_restored() {
    let scenario = Scenario::new("sealed-changed").await;
    let identity = Identity::generate();
    scenario.fill(1).await;
    let point = scenario.sealed_point(9, &identity).await;
    let key = scenario.dump_key(&point);
    let good = scenario.bucket.get(&key).await.expect("get").expect("a dump");
    let restore = Restore::of(&scenario, &point);
    for place in [60, good.len() / 2, good.len() - 1] {
        let mut changed = good.clone();
        changed[place] ^= 1;
        scenario.bucket.put(&key, changed).await.expect("put");
        let (reason, message) = restore.run_with(RestoreStep::Copy, &identity).await.refused();
        assert_eq!(reason, RestoreRefusal::PointCorrupt, "byte {place}: {message}");
        assert!(message.contains("another SHA-256"), "{message}");
        assert!(!scenario.exists(&restore.copy()).await);
    }
    let mut other = scenario.command();
    other.args([contract::ARG_RECIPIENT, &identity.to_public().to_string()]);
    let other = scenario.run(other).await.complete().id;
    let swapped = scenario.bucket.get(&scenario.dump_key(&other)).await.expect("get").expect("a dump");
    scenario.bucket.put(&key, swapped).await.expect("put");
    let (reason, message) = restore.run_with(RestoreStep::Copy, &identity).await.refused();
    assert_eq!(reason, RestoreRefusal::PointCorrupt, "{message}");
    scenario.bucket.put(&key, good).await.expect("put");
    assert_eq!(restore.run_with(RestoreStep::Copy, &identity).await.done().rows, Some(9 + 16));
}
