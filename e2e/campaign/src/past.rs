//! Time travel: an operator that starts is shown what there was at an earlier revision.

use std::collections::BTreeSet;
use std::sync::Mutex;

use http::Uri;
use kube::Client;
use kube::api::{Api, ListParams};

use super::plan::Call;
use super::sync::lock;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where to, and who is still to be led there.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    remembered: Option<String>,
    journey: Option<Journey>,
}

#[derive(Debug)]
struct Journey {
    revision: String,
    /// The resource that is listed from the past; none is every one.
    one: Option<String>,
    /// The lists that were led there.
    led: BTreeSet<String>,
}

impl Past {
    /// Keeps the revision of this moment, unless an earlier one is kept.
    pub(super) async fn remember(&self, client: &Client, call: &Call) -> Result<(), Error> {
        if lock(&self.0).remembered.is_none() {
            let api = Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(client.clone(), &call.namespace);
            let list = api.list_metadata(&ListParams::default().limit(1)).await?;
            lock(&self.0).remembered = list.metadata.resource_version;
        }
        Ok(())
    }

    /// From now on the first lists are of that revision.
    pub(super) fn go_back(&self, one: Option<&str>) {
        let mut contents = lock(&self.0);
        let Some(revision) = contents.remembered.take() else { return };
        contents.journey = Some(Journey { revision, one: one.map(str::to_owned), led: BTreeSet::new() });
    }

    /// Makes a list one of the past, if it is the first of its kind that fills a cache: those come in pages.
    pub(super) fn lead(&self, call: &Call, uri: &mut Uri) -> Result<(), Error> {
        let mut contents = lock(&self.0);
        let Some(journey) = &mut contents.journey else { return Ok(()) };
        let query = uri.query().unwrap_or_default();
        let fills_a_cache = query.contains("limit=") && !query.contains("continue=");
        if !fills_a_cache || journey.one.as_ref().is_some_and(|one| *one != call.resource) {
            return Ok(());
        }
        if journey.led.insert(uri.to_string()) {
            let to = &journey.revision;
            *uri = format!("{}?{query}&resourceVersion={to}&resourceVersionMatch=Exact", uri.path()).parse()?;
        }
        Ok(())
    }

    /// Whether an operator is led there, or was.
    pub(super) fn is_shown(&self) -> bool {
        lock(&self.0).journey.is_some()
    }

    /// Whether nobody is awaited: the stacks are listed last.
    pub(super) fn is_listed(&self) -> bool {
        lock(&self.0).journey.as_ref().is_none_or(|journey| match &journey.one {
            Some(one) => journey.led.iter().any(|uri| uri.contains(one.as_str())),
            None => journey.led.iter().any(|uri| uri.contains("rorunstacks")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(past: &Past, uri: &str) -> String {
        let mut uri: Uri = uri.parse().expect("a path");
        let call = Call::of("GET", uri.path(), uri.query().unwrap_or_default());
        past.lead(&call, &mut uri).expect("a path");
        uri.to_string()
    }

    #[test]
    fn the_first_list_of_a_cache_is_of_the_past_and_no_other() {
        let past = Past::default();
        let caches = "/api/v1/namespaces/a/secrets?limit=500";
        assert_eq!(list(&past, caches), caches);
        lock(&past.0).remembered = Some("7".to_owned());
        past.go_back(Some("secrets"));
        assert!(!past.is_listed());
        let direct = "/api/v1/namespaces/a/secrets?";
        assert_eq!(list(&past, direct), direct);
        let other = "/api/v1/namespaces/a/services?limit=500";
        assert_eq!(list(&past, other), other);
        assert_eq!(list(&past, caches), format!("{caches}&resourceVersion=7&resourceVersionMatch=Exact"));
        assert!(past.is_listed());
        assert_eq!(list(&past, caches), caches);
    }
}
