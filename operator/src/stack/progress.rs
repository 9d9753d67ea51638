//! A revision of a release as the cluster keeps it, and what became of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Beside, Content, Place};
use crate::{
    api::v1alpha1::RorunStackSpec,
    names::{Component, image},
};

/// A revision of a release, as the cluster keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The name of the ControllerRevision.
    pub name: String,
    /// Its number: of two, the greater is the newer.
    pub number: i64,
    /// What of the spec it holds.
    pub content: Content,
    /// What became of it.
    pub progress: Progress,
}

impl Revision {
    /// An image of it with the digest that its pods run, if there is one.
    pub fn pinned(&self, component: Component, image: &str) -> String {
        let digest = self.progress.digests.get(component.as_str());
        digest.map_or_else(|| image.to_owned(), |digest| with_digest(image, digest))
    }

    /// An image of it with each digest that its pods ran since it serves, sorted: the same whichever of these pods are there.
    pub fn images_that_ran(&self, component: Component, image: &str) -> Vec<String> {
        match self.progress.several.get(component.as_str()) {
            Some(digests) => {
                let images: BTreeSet<String> = digests.iter().map(|digest| with_digest(image, digest)).collect();
                images.into_iter().collect()
            }
            None => vec![self.pinned(component, image)],
        }
    }

    /// Which of several such images its pods run now. `None`: there is one alone, or pods that serve together run several.
    pub fn image_that_runs(&self, component: Component, image: &str) -> Option<String> {
        self.progress.several.get(component.as_str())?;
        let runs = self.pinned(component, image);
        image::ImageName::new(&runs).digest.is_some().then_some(runs)
    }
}

/// `digest`: or a word that tells why there is none.
fn with_digest(image: &str, digest: &str) -> String {
    if image::is_digest(digest) && !image.contains('@') { format!("{image}@{digest}") } else { image.to_owned() }
}

impl Revision {
    /// The spec with the workloads of this revision as they served: all else is that of the spec. `None`: an operator of another version
    /// wrote it, and this one cannot read it.
    pub fn in_spec(&self, spec: &RorunStackSpec) -> Option<RorunStackSpec> {
        self.content.in_spec(self.progress.beside.as_ref(), spec)
    }
}

/// What became of a revision. Moments are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// When it was first observed.
    pub created_at: i64,
    /// What its pods are made of beside its content, by its last roll-out. `None`: its pods were never made, or by an operator that did
    /// not record it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// The backup that is the way back from its migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_point: Option<RecoveryPoint>,
    /// How the tests of its candidates ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tested: Option<Tested>,
    /// When the smoke tests that ask its pods after the rollout passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<i64>,
    /// When its rollout began, or that of its candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// When it began to serve. A revision that served is one to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_at: Option<i64>,
    /// What keeps its rollout from going on though the release is not at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excused: Option<String>,
    /// Until when something did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excused_until: Option<i64>,
    /// Since when its smoke tests are asked anew: until then something was amiss for which it is not at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_since: Option<i64>,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// The migrations that were applied: a hash of image, command and identity of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated: Option<String>,
    /// Which data that was: a hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where the data are that it serves. `None`: it never served, it is not known, or an operator of before did not record it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The names of the migrations that its Job applied. `None`: nothing tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<Vec<String>>,
    /// What keeps the command of its migration from running, by the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_begun: Option<NotBegun>,
    /// The Job whose command ran, in whichever of its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    /// When the Job of the migration was made. Absent where none ran for this revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_started_at: Option<i64>,
    /// When the Job of the migration had succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated_at: Option<i64>,
    /// Who approved it, if anybody had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// An admission policy made sure of that name.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approval_verified: bool,
    /// When that was observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<i64>,
    /// What its pods ran when last looked at, by workload: a digest, or why there is none, as the status tells it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// All that its pods ran, by workload, where that was not the same at all times: several at once, or one after the other.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub several: BTreeMap<String, BTreeSet<String>>,
    /// When one of them was last another one: a tag was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digests_changed_at: Option<i64>,
}

/// What keeps the command of a migration from running.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NotBegun {
    /// Another session holds the lock, or works for a migration that was ended.
    pub locked: bool,
    /// In one sentence.
    pub message: String,
}

/// The backup that is the way back from the migration of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryPoint {
    /// The identifier of the backup. Empty if it is not known.
    pub id: String,
    /// The URL of its manifest.
    pub location: String,
    /// When it was complete, or was skipped, in seconds since 1970.
    pub at: i64,
    /// Somebody wanted the release to go on without.
    pub skipped: bool,
}

/// How the tests of candidates ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tested {
    /// When, in seconds since 1970.
    pub at: i64,
    /// What the tests were about: a hash of the revision and of the tests.
    pub of: String,
    /// Why they failed, in one sentence. `None`: they passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What was tested: another attempt tests again what failed.
    #[serde(flatten)]
    pub attempt: Attempt,
}

/// A rollout that was given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RolledBack {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Why, in one sentence.
    pub message: String,
    /// What was tried.
    #[serde(flatten)]
    pub attempt: Attempt,
}

/// With what a revision is tried: what failed is tried again once this is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// The value of `rorun.app/retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// What its pods are made of beside its content: [`Beside::id`]. `None`: an operator of before did not record it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

impl Attempt {
    /// Whether another one is the same, as far as it is known.
    pub fn is(&self, other: &Self) -> bool {
        self.retry == other.retry && (self.beside.is_none() || self.beside == other.beside)
    }

    /// What distinguishes the names of its Jobs from those of another attempt.
    pub fn parts(&self) -> Vec<&str> {
        let beside = self.beside.as_deref().filter(|beside| !beside.is_empty());
        std::iter::once(self.retry.as_deref().unwrap_or_default()).chain(beside).collect()
    }
}
