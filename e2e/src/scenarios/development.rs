//! The smallest stack: from `kubectl apply` to a receipt that went through PostgreSQL, the bucket, Redis and the OCR
//! service.

use std::time::Duration;

use anyhow::Result;

use super::kit::Scene;

pub(super) async fn run(scene: &Scene) -> Result<()> {
    let stack = scene.apply_example("development.yaml", |_| ()).await?;
    stack.wait_ready(Duration::from_mins(3)).await?;
    Ok(())
}
