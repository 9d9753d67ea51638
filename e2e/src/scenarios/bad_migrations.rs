//! Migrations that go wrong, and a smoke test that is sent in a circle: the old version serves on, the status says what happened in the
//! words of `docs/releases.md`, and the release goes through once it is mended.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::kit::{API_NEXT, App, Observed, Stack, TestContext, project, ready};
use crate::engine::image::cloudnative_pg::pooler;
use crate::engine::image::data::POSTGRES;
use crate::engine::progress;

const READY_WITHIN: Duration = Duration::from_mins(3);
/// A smoke test is repeated for a minute, and a migration has two minutes for its lock beside its own time.
const DECIDED_WITHIN: Duration = Duration::from_mins(4);
/// How many bytes a message may have, with its way out.
const LONGEST: usize = 1024;
/// The version that serves before.
const BEFORE: &str = "1.8.0";

const MIGRATE: &[&str] = &["/rorun-fixture", "migrate"];

/// Something that a migration does wrong.
struct Fault {
    /// In the words of the page.
    name: &'static str,
    command: &'static [&'static str],
    mode: &'static str,
    /// The login and the port of `DIRECT_URL`.
    by: (&'static str, u16),
}

const OWNER: (&str, u16) = ("rorun", 5432);
/// It may read and write rows, and owns nothing.
const CLERK: (&str, u16) = ("clerk", 5432);
/// No port by which anybody knows a pooler.
const POOLER: (&str, u16) = ("rorun", 5433);

const FAULTS: [Fault; 7] = [
    fault("an image without the command", &["/prisma", "migrate", "deploy"], "ok", OWNER),
    fault("a megabyte of output", MIGRATE, "noise", OWNER),
    fault("output that is no UTF-8", MIGRATE, "garbage", OWNER),
    fault("a session that ends itself", MIGRATE, "ends", OWNER),
    fault("a full disk", MIGRATE, "fills", OWNER),
    fault("no right to change tables", MIGRATE, "fail", CLERK),
    fault("a pooler behind `DIRECT_URL`", MIGRATE, "ok", POOLER),
];

const fn fault(
    name: &'static str,
    command: &'static [&'static str],
    mode: &'static str,
    by: (&'static str, u16),
) -> Fault {
    Fault { name, command, mode, by }
}

/// A row of the page: what is wrong, the reason, and the message.
struct Row(&'static str, &'static str, String);

pub(super) async fn run(test: &TestContext) -> Result<()> {
    // A command that hangs takes its two minutes beside the others.
    let (mut rows, hanging) = tokio::try_join!(Box::pin(fail(test)), Box::pin(hangs(test)))?;
    rows.push(hanging);
    let page = fs::read_to_string(project().join("docs/releases.md"))?;
    let lines = rows.iter().map(|Row(what, reason, message)| format!("| {what} | `{reason}` | {message} |"));
    let missing: Vec<_> = lines.filter(|line| !page.contains(line.as_str())).collect();
    ensure!(missing.is_empty(), "docs/releases.md lacks these rows:\n{}", missing.join("\n"));
    Ok(())
}

/// One migration after the other, of the same release.
async fn fail(test: &TestContext) -> Result<Vec<Row>> {
    let server = Server::start(test).await?;
    let stack = test
        .apply_example("development.yaml", |stack| {
            let spec = &mut stack["spec"];
            spec["database"] = json!({"external": {"secretRef": {"name": SECRET}}});
            spec["api"]["migrations"] = migrations(MIGRATE, "ok");
        })
        .await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let receipt = test.first_receipt(&app, "1 bag of rice, 82000").await?;
    server.sql(&format!("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {}", CLERK.0)).await?;

    let mut rows = Vec::new();
    serves_on(&app, async {
        for fault in &FAULTS {
            server.lead(&stack, fault.by).await?;
            let spec = json!({"image": API_NEXT, "migrations": migrations(fault.command, fault.mode)});
            let message = ask_again(&stack, fault.name, json!({"api": spec}), "MigrationFailed").await?;
            rows.push(Row(fault.name, "MigrationFailed", message));
        }
        // Mended, the migration goes through, and what comes after it fails.
        server.lead(&stack, OWNER).await?;
        let name = "a smoke test that is redirected for ever";
        let api = json!({"candidate": true, "migrations": migrations(MIGRATE, "ok")});
        let spec = json!({"release": {"smokeTests": [{"component": "api", "path": "/round"}]}, "api": api});
        let message = ask_again(&stack, name, spec, "SmokeTestFailed").await?;
        rows.push(Row(name, "SmokeTestFailed", message));
        let migrated = &stack.status().await?.json["release"]["target"]["migrated"];
        ensure!(migrated == true, "the migration is not known to have gone through: {migrated}");
        Ok(())
    })
    .await?;
    let spec = json!({"release": {"smokeTests": [{"component": "api", "path": "/version", "contains": "1.9.0"}]}});
    goes_through(&stack, &app, spec).await?;
    app.check(&receipt).await?;
    Ok(rows)
}

async fn hangs(test: &TestContext) -> Result<Row> {
    let stack = test
        .apply_example("development.yaml", |stack| {
            stack["metadata"]["name"] = json!("hangs");
            let spec = &mut stack["spec"];
            spec["ingress"]["host"] = json!(test.host("hangs"));
            spec["api"]["migrations"] = migrations(MIGRATE, "ok");
            spec.as_object_mut().map(|spec| spec.remove("ocr"));
        })
        .await?;
    stack.wait_ready(READY_WITHIN).await?;
    let app = test.app(&stack).await?;
    let name = "a command that hangs";
    let mut migrations_that_hang = migrations(MIGRATE, "hang");
    migrations_that_hang["timeoutSeconds"] = json!(1);
    let spec = json!({"api": {"image": API_NEXT, "migrations": migrations_that_hang}});
    let mut message = String::new();
    serves_on(&app, async {
        message = ask_again(&stack, name, spec, "MigrationFailed").await?;
        Ok(())
    })
    .await?;
    goes_through(&stack, &app, json!({"api": {"migrations": migrations(MIGRATE, "ok")}})).await?;
    Ok(Row(name, "MigrationFailed", message))
}

fn migrations(command: &[&str], mode: &str) -> Value {
    json!({"command": command, "timeoutSeconds": 60, "env": [{"name": "MIGRATE_MODE", "value": mode}]})
}

/// A client notices nothing, and never meets another version.
async fn serves_on(app: &App, work: impl Future<Output = Result<()>>) -> Result<()> {
    let ((), asked) = app.asked_while(work).await?;
    asked.without_failure()?;
    ensure!(asked.answered.keys().all(|version| version == BEFORE), "a client met {:?}", asked.answered);
    progress::note(&format!("{}: {} requests, 0 failed, all answered by {BEFORE}", app.host, asked.count()));
    Ok(())
}

/// Changes the spec and asks for another try at once; gives what is told once that has failed for this reason.
async fn ask_again(stack: &Stack, name: &str, spec: Value, reason: &str) -> Result<String> {
    let annotations = json!({"rorun.app/retry": name});
    stack.patch(json!({"metadata": {"annotations": annotations}, "spec": spec})).await?;
    let what = format!("{name} to be told");
    let failed = stack.wait_status(&what, DECIDED_WITHIN, |status| {
        let release = &status.json["release"];
        status.is_current() && release["retry"] == name && release["state"] == reason
    });
    let status = failed.await?;
    let told = |kind: &str| status.condition(kind).with_context(|| format!("{name}: no condition {kind}"));
    let (ready, stalled) = (told("Ready")?, told("Stalled")?);
    ensure!(ready.status == "False" && ready.reason == reason, "{name}: {}", status.line("Ready"));
    ensure!(stalled.status == "True" && stalled.reason == reason, "{name}: {}", status.line("Stalled"));
    let message = &ready.message;
    ensure!(message.len() <= LONGEST, "{name}: the message has {} bytes: {message}", message.len());
    ensure!(!message.contains(char::is_control), "{name}: a character is none to read: {message:?}");
    ensure!(!message.contains(PASSWORD), "{name}: a password is told");
    progress::note(&format!("{name}: {reason}: {message}"));
    as_documented(message, &stack.namespace).with_context(|| format!("{name}: {message}"))
}

/// What is different each time is left out: the names of the objects, a moment, a file.
fn as_documented(message: &str, namespace: &str) -> Option<String> {
    let (_, said) = message.split_once(" is held, since ")?;
    let (said, _) = said.split_once("; mend it, then change the image or set the annotation")?;
    let said = match said.split_once("its migration failed, job/") {
        Some(("", of)) => of.split_once(": ")?.1,
        _ => said,
    };
    let said = between(&said.replace(namespace, "shop"), "pg_tblspc/", "\"");
    // A line of the log of the program, which came before its last words.
    Some(between(&said, "{\"timestamp\"", "}").replace("{\"timestamp\"…} ", ""))
}

/// The text without what stands between two others.
fn between(text: &str, start: &str, end: &str) -> String {
    let found = text.split_once(start).and_then(|(before, rest)| Some((before, rest.find(end)?, rest)));
    found.map_or_else(|| text.to_owned(), |(before, to, rest)| format!("{before}{start}…{}", &rest[to..]))
}

/// With another retry, since what was tried before counts otherwise.
async fn goes_through(stack: &Stack, app: &App, spec: Value) -> Result<()> {
    let annotations = json!({"rorun.app/retry": "mended"});
    let rolls_out = async {
        stack.patch(json!({"metadata": {"annotations": annotations}, "spec": spec})).await?;
        stack
            .wait_status("the mended release to serve", READY_WITHIN, |status| {
                let release = &status.json["release"];
                let ready = status.condition("Ready").is_some_and(|ready| ready.status == "True");
                status.is_current() && ready && release["state"] == "Serving" && release["current"]["api"] == API_NEXT
            })
            .await
    };
    app.unnoticed("a release that is mended", rolls_out).await?;
    ensure!(stack.status().await?.condition("Stalled").is_none(), "it serves, and is stalled");
    Ok(())
}

const SECRET: &str = "records";
const PASSWORD: &str = "hunter2";
const DATABASE: &str = "receipts";

/// A PostgreSQL of somebody else, with a pooler in front of another port, and a small disk beside its own.
struct Server<'a> {
    test: &'a TestContext,
}

impl<'a> Server<'a> {
    async fn start(test: &'a TestContext) -> Result<Self> {
        let pooler = test.bring(pooler()).await?;
        let server = Self { test };
        let (user, port) = POOLER;
        let to = format!("host=127.0.0.1 port={} user={user} password={PASSWORD}", OWNER.1);
        let settings = [
            "listen_addr = *",
            &format!("listen_port = {port}"),
            "unix_socket_dir =",
            "auth_type = trust",
            "auth_file = /config/users",
            "pool_mode = transaction",
            "ignore_startup_parameters = extra_float_digits,options",
        ];
        let ini = format!("[databases]\n{DATABASE} = {to}\n[pgbouncer]\n{}\n", settings.join("\n"));
        test.secret("pgbouncer", json!({"pgbouncer.ini": ini, "users": format!("\"{user}\" \"{PASSWORD}\"\n")}))
            .await?;
        server.name_in_secret(OWNER).await?;
        let items = [server.deployment(&pooler), server.service()];
        test.apply_objects(&json!({"apiVersion": "v1", "kind": "List", "items": items})).await?;
        test.wait("the server of somebody else to run", READY_WITHIN, async || {
            let pods = test.api::<Pod>(&test.namespace).list(&ListParams::default().labels("app=records")).await?;
            Ok(Observed::when(pods.iter().any(ready), "its pod is not ready"))
        })
        .await?;
        let disk = ["sh", "-c", "mkdir /small/disk"];
        test.exec(&test.namespace, "deployment/records", &disk).await?;
        server.sql("CREATE TABLESPACE small LOCATION '/small/disk'").await?;
        server.sql(&format!("CREATE ROLE {} LOGIN PASSWORD '{PASSWORD}'", CLERK.0)).await?;
        Ok(server)
    }

    /// By the socket, where nobody is asked for a password.
    async fn sql(&self, sql: &str) -> Result<()> {
        let command = ["psql", "--username", OWNER.0, "--dbname", DATABASE, "--command", sql];
        self.test.exec(&self.test.namespace, "deployment/records", &command).await.map(drop)
    }

    /// Lets `DIRECT_URL` of the stack lead to this port by this login, and waits until the operator has taken it over.
    async fn lead(&self, stack: &Stack, by: (&str, u16)) -> Result<()> {
        self.name_in_secret(by).await?;
        let url = self.url(by);
        stack
            .wait("DIRECT_URL to be the new one", READY_WITHIN, async || {
                let taken = stack.connection().await?.get("DIRECT_URL") == Some(&url);
                Ok(Observed::when(taken, "it is another one"))
            })
            .await
    }

    async fn name_in_secret(&self, direct: (&str, u16)) -> Result<()> {
        self.test.secret(SECRET, json!({"DATABASE_URL": self.url(OWNER), "DIRECT_URL": self.url(direct)})).await
    }

    fn url(&self, (user, port): (&str, u16)) -> String {
        let host = format!("records.{}.svc", self.test.namespace);
        format!("postgresql://{user}:{PASSWORD}@{host}:{port}/{DATABASE}?sslmode=disable")
    }

    fn metadata(&self) -> Value {
        json!({"name": "records", "namespace": self.test.namespace})
    }

    fn service(&self) -> Value {
        let port = |(_, port): (&str, u16)| json!({"name": format!("by-{port}"), "port": port});
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(),
            "spec": {"selector": {"app": "records"}, "ports": [port(OWNER), port(POOLER)]},
        })
    }

    fn deployment(&self, pooler: &str) -> Value {
        let container = |name: &str, image: &str, port: u16, mounts: Value| {
            json!({
                "name": name,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": mounts,
            })
        };
        let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path});
        let data = "/var/lib/postgresql/data";
        let mounts = json!([mount("data", data), mount("small", "/small")]);
        let mut postgres = container("postgres", POSTGRES, OWNER.1, mounts);
        let variable = |name: &str, value: &str| json!({"name": name, "value": value});
        postgres["env"] = json!([
            variable("POSTGRES_USER", OWNER.0),
            variable("POSTGRES_PASSWORD", PASSWORD),
            variable("POSTGRES_DB", DATABASE),
            variable("PGDATA", &format!("{data}/pgdata")),
        ]);
        let mut pooler = container("pooler", pooler, POOLER.1, json!([mount("config", "/config")]));
        pooler["args"] = json!(["/config/pgbouncer.ini"]);
        let labels = json!({"app": "records"});
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(),
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": 999,
                    "runAsGroup": 999,
                    "fsGroup": 999,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [postgres, pooler],
                "volumes": [
                    {"name": "data", "emptyDir": {}},
                    // A file system in memory, which is full when it has as much as this.
                    {"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
                    {"name": "config", "secret": {"secretName": "pgbouncer"}},
                ],
            }}},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_each_time_is_no_part_of_the_documentation() {
        let told = |said: &str| {
            let held = format!(
                "migration: release 1 (api:2) is held, since {said}; mend it, then change the image or set the annotation x"
            );
            as_documented(&held, "bad-migrations-x7").expect("the form of the message")
        };
        let failed = |said: &str| told(&format!("its migration failed, job/rorun-migration-1: {said}"));
        assert_eq!(failed("no \"pg_tblspc/1/PG_17/2\": No space"), "no \"pg_tblspc/…\": No space");
        assert_eq!(failed("stopped; {\"timestamp\":\"1\",\"a\":1} Error: x"), "stopped; Error: x");
        assert_eq!(told("GET http://a.bad-migrations-x7.svc: 307"), "GET http://a.shop.svc: 307");
    }
}
