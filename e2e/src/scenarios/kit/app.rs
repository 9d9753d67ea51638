//! The application of a stack, used as the mobile app uses it: through the Ingress.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Authority, Ingress, Observed, Stack, TestContext};

/// How long an Ingress controller may take to learn of a new route.
const ROUTED_WITHIN: Duration = Duration::from_secs(30);

/// The API of a stack, by its host.
#[derive(Clone, Debug)]
pub struct App {
    ingress: Ingress,
    /// The host that leads to it.
    pub host: String,
}

/// A receipt that was stored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Its identifier, in the database, the bucket and the queue.
    pub id: String,
    /// SHA-256 of the text that the client sent.
    pub sha256: String,
    /// The lines that the OCR service read; none without that service.
    pub ocr: Option<String>,
}

impl TestContext {
    /// The API of a stack of this test that has an Ingress; waits until the Ingress leads to it.
    pub async fn app(&self, stack: &Stack) -> Result<App> {
        self.app_by(self.ingress.clone(), stack).await
    }

    /// The API by HTTPS, with a certificate of that authority.
    pub async fn https_app(&self, stack: &Stack, authority: &Authority) -> Result<App> {
        self.app_by(self.ingress.over_https(&authority.pem()), stack).await
    }

    /// The first receipt of a stack that has just become Ready. A node learns of a new Service some time after the pods
    /// behind it are ready, so one service may not find the other at once.
    pub async fn first_receipt(&self, app: &App, text: &str) -> Result<Receipt> {
        let what = format!("{} to take its first receipt", app.host);
        self.wait(&what, ROUTED_WITHIN, async || Ok(Observed::Met(app.send(text).await?))).await
    }

    /// Waits until the application has a receipt as it was sent: the Ingress learns of new pods by itself, and the application of a
    /// new address of a service.
    pub async fn wait_served(&self, app: &App, receipt: &Receipt) -> Result<()> {
        self.wait(&format!("{} to have the receipt", app.host), ROUTED_WITHIN, async || {
            let found = app.check(receipt).await;
            Ok(Observed::when(found.is_ok(), format!("{found:?}")))
        })
        .await
    }

    /// Waits until the Ingress leads to a host. Its controller learns of each host by itself: that one answers does not
    /// say that the next does.
    pub async fn wait_routed(&self, ingress: &Ingress, host: &str, path: &str) -> Result<()> {
        self.wait(&format!("the Ingress to lead to {host}{path}"), ROUTED_WITHIN, async || {
            let answer = ingress.get(host, path).await?;
            Ok(Observed::when(answer.code == 200, format!("{} {}", answer.code, answer.body)))
        })
        .await
    }

    async fn app_by(&self, ingress: Ingress, stack: &Stack) -> Result<App> {
        let resource = stack.resource().await?;
        let host = resource["spec"]["ingress"]["host"].as_str().context("the stack has no Ingress")?.to_owned();
        self.wait_routed(&ingress, &host, "/version").await?;
        Ok(App { ingress, host })
    }
}

impl App {
    /// Sends a receipt. Every service must have done its part.
    pub async fn send(&self, text: &str) -> Result<Receipt> {
        let answer = self.ingress.post(&self.host, "/receipts", text).await?.json();
        Ok(serde_json::from_value(answer.context("the receipt was refused")?)?)
    }

    /// The row of a receipt, with what the bucket and the queue hold of it now.
    pub async fn find(&self, id: &str) -> Result<Value> {
        self.get(&format!("/receipts/{id}")).await
    }

    /// All rows, oldest first.
    pub async fn list(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_value(self.get("/receipts").await?)?)
    }

    /// The release that answers.
    pub async fn version(&self) -> Result<String> {
        let version = self.get("/version").await?;
        Ok(version["version"].as_str().context("no version")?.to_owned())
    }

    /// The answer of a path, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.ingress.get(&self.host, path).await?;
        answer.json().with_context(|| format!("http://{}{path}", self.host))
    }

    /// Checks that the row, the object and the queue entry of a receipt are there and belong together.
    pub async fn check(&self, receipt: &Receipt) -> Result<()> {
        let found = self.find(&receipt.id).await?;
        let whole = found["sha256"] == receipt.sha256.as_str()
            && found["objectSha256"] == receipt.sha256.as_str()
            && found["queued"] == true
            && found["ocr"].as_str() == receipt.ocr.as_deref();
        ensure!(whole, "the receipt {receipt:?} is stored as {found}");
        Ok(())
    }
}
