//! Whether a `StorageClass` can expand volumes: the operator reads it only for a volume that is to grow, and remembers the answer
//! for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};

/// How long an answer counts: a class changes rarely, and a user who changes one waits no longer than this.
const FRESH: Duration = Duration::from_mins(10);

/// The classes that were read.
#[derive(Default)]
pub(super) struct StorageClasses {
    known: Mutex<HashMap<String, (Instant, Option<bool>)>>,
}

impl StorageClasses {
    /// Whether the class can expand volumes. `None`: the operator may not read it (it has Roles alone), or it is gone. The API
    /// server says so then, to the growth itself.
    pub(super) async fn expandable(&self, client: &Client, name: &str) -> Result<Option<bool>, kube::Error> {
        if let Some((_, answer)) = self.lock().get(name).filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(*answer);
        }
        let answer = match Api::<StorageClass>::all(client.clone()).get_opt(name).await {
            Ok(class) => class.map(|class| class.allow_volume_expansion.unwrap_or(false)),
            Err(kube::Error::Api(status)) if status.code == 403 => None,
            Err(error) => return Err(error),
        };
        self.lock().insert(name.to_owned(), (Instant::now(), answer));
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Instant, Option<bool>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
