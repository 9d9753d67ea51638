//! What is lost with more than rows comes back by the commands of the runbooks: a stack with its bucket from a copy in another one, a
//! namespace from the bucket of its recovery points, and the volume of a database. The copies are in the bucket of another stack, as
//! if that were another region.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kit::{Receipt, Stack, TestContext, lost_with};
use super::restore::{NEVER, point};

const READY_WITHIN: Duration = Duration::from_mins(3);
/// Where the copies are, in the bucket elsewhere.
const COPIES: &str = "copies/";
const STACK: &str = "shop";

pub(super) async fn run(test: &TestContext) -> Result<()> {
    let elsewhere = test
        .apply_example("development.yaml", |stack| {
            stack["spec"]["backup"] = backup();
        })
        .await?;
    elsewhere.wait_ready(READY_WITHIN).await?;
    let bucket = Elsewhere::of(&elsewhere).await?;
    let namespace = test.namespace_called("lost").await?;
    for name in ["offsite", "elsewhere"] {
        bucket.secret(test, &namespace, name).await?;
    }
    let manifest = manifest(test, &namespace, |spec| {
        spec["backup"]["destination"] = bucket.external("offsite");
        let mut copy = bucket.external("elsewhere");
        copy["prefix"] = json!(COPIES);
        spec["backup"]["copies"] = json!([copy]);
    })?;
    test.apply_objects(&manifest).await?;
    let stack = test.stack_in(&namespace, STACK);
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "five").await?;
    let rows = app.list().await?.len();
    let id = point(test, &namespace, &stack).await?;
    let lost = Lost { test, elsewhere: &elsewhere, bucket: &bucket, stack, receipt, rows, point: id };
    lost.region().await?;
    lost.namespace().await?;
    lost_database(test, &elsewhere).await
}

fn backup() -> Value {
    let little = json!({"requests": {"cpu": "10m", "memory": "32Mi"}});
    json!({"schedule": NEVER, "includeBucket": true, "resources": little})
}

/// The objects of a small stack.
fn manifest(test: &TestContext, namespace: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut documents = test.small_example("development.yaml")?;
    documents.edit_stack(|stack| {
        stack["metadata"]["name"] = json!(STACK);
        stack["spec"]["ingress"]["host"] = json!(test.host("lost"));
        stack["spec"]["backup"] = backup();
        change(&mut stack["spec"]);
    })?;
    Ok(documents.in_namespace(namespace)?.0)
}

/// The bucket that is not lost.
struct Elsewhere {
    connection: BTreeMap<String, String>,
}

impl Elsewhere {
    async fn of(stack: &Stack) -> Result<Self> {
        Ok(Self { connection: stack.connection().await? })
    }

    fn value(&self, key: &str) -> &str {
        self.connection.get(key).map(String::as_str).unwrap_or_default()
    }

    fn external(&self, secret: &str) -> Value {
        json!({"external": {
            "name": self.value("S3_BUCKET"), "endpoint": self.value("S3_ENDPOINT"), "forcePathStyle": true,
            "credentialsSecretRef": {"name": secret},
        }})
    }

    async fn secret(&self, test: &TestContext, namespace: &str, name: &str) -> Result<()> {
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|key| (key, self.value(key)));
        let metadata = json!({"name": name, "namespace": namespace});
        let keys: BTreeMap<_, _> = keys.into();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys});
        test.apply_objects(&secret).await
    }
}

/// A stack that is lost with its namespace, twice, and what has to come back.
struct Lost<'a> {
    test: &'a TestContext,
    elsewhere: &'a Stack,
    bucket: &'a Elsewhere,
    stack: Stack,
    receipt: Receipt,
    rows: usize,
    /// The newest recovery point.
    point: String,
}

impl Lost<'_> {
    /// Both buckets are gone: the one of the application for real, and nobody is led to that of the points.
    async fn region(&self) -> Result<()> {
        let manifest = manifest(self.test, &self.stack.namespace, |spec| {
            spec["backup"]["destination"] = self.bucket.external("elsewhere");
        })?;
        self.play("lost-region.md", Some(&manifest), &[("PREFIX", COPIES)]).await?;
        // The queue is in no point: it was lost with the region.
        let found = self.test.app(&self.stack).await?.find(&self.receipt.id).await?;
        ensure!(
            found["objectSha256"] == self.receipt.sha256.as_str(),
            "the object of the receipt is not there: {found}"
        );
        Ok(())
    }

    /// The bucket of the points is where it was, and nobody has the manifest: the spec in the point is that of the stack before the
    /// region was lost, with its copies.
    async fn namespace(&self) -> Result<()> {
        self.play("lost-namespace.md", None, &[("SECRETS", "offsite elsewhere")]).await?;
        let backup = self.stack.resource().await?["spec"]["backup"].clone();
        let named = |place: &Value| place["external"]["credentialsSecretRef"]["name"].clone();
        let secrets = [named(&backup["destination"]), named(&backup["copies"][0])];
        ensure!(secrets == [json!("offsite"), json!("elsewhere")], "the stack is made of another spec: {backup}");
        Ok(())
    }

    /// The namespace goes with all that is in it, and the page makes the stack anew, of a manifest if there is one.
    async fn play(&self, page: &str, manifest: Option<&Value>, more: &[(&str, &str)]) -> Result<()> {
        let Self { test, bucket, .. } = self;
        let namespace = self.stack.namespace.as_str();
        lost_with(page, &self.point)?;
        test.kubectl(&["delete", "namespace", namespace, "--timeout=180s"]).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("stack.json");
        if let Some(manifest) = manifest {
            fs::write(&file, manifest.to_string())?;
        }
        let service = format!("service/{}", self.elsewhere.child("bucket"));
        let forward = test.forward(&test.namespace, &service, 8333).await?;
        let endpoint = format!("http://localhost:{}", forward.port);
        let file = file.to_str().context("a path in UTF-8")?;
        let mut variables = vec![
            ("NAMESPACE", namespace),
            ("STACK", STACK),
            ("MANIFEST", file),
            ("ENDPOINT", &endpoint),
            ("BUCKET", bucket.value("S3_BUCKET")),
        ];
        variables.extend(more);
        variables.extend([
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", bucket.value("AWS_ACCESS_KEY_ID")),
            ("AWS_SECRET_ACCESS_KEY", bucket.value("AWS_SECRET_ACCESS_KEY")),
        ]);
        test.runbook(page, "default", &variables).await?;
        let restored = test.app(&self.stack).await?.list().await?;
        let there = restored.iter().any(|row| row["id"] == self.receipt.id.as_str());
        ensure!(there && restored.len() == self.rows, "of {} rows the new stack has {restored:?}", self.rows);
        Ok(())
    }
}

/// The volume of the database goes, and what was on it comes back from the newest point.
async fn lost_database(test: &TestContext, stack: &Stack) -> Result<()> {
    let app = test.app(stack).await?;
    let receipt = test.first_receipt(&app, "six").await?;
    let rows = app.list().await?.len();
    let id = point(test, &test.namespace, stack).await?;
    lost_with("lost-database.md", &id)?;
    let variables = [("NAMESPACE", test.namespace.as_str()), ("STACK", &stack.name)];
    test.runbook("lost-database.md", "default", &variables).await?;
    app.check(&receipt).await?;
    let restored = app.list().await?;
    ensure!(restored.len() == rows, "of {rows} rows there are {restored:?}");
    stack.wait_ready(READY_WITHIN).await.map(drop)
}
