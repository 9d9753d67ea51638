//! One watch without end, as every cache is filled by.
//!
//! kube resumes a watch that the API server ended from the last revision that it received. That is wrong after a restore of etcd:
//! the revision goes back, and the API server sends no event to a watch from a revision which is still to come. etcd is not
//! restored while the API server can be reached, so a watch that broke, or could not be started again, lists first. That the next
//! watch could be started proves nothing: a server that is starting keeps connections waiting, and so may a load balancer. Until
//! the watch has listed, its cache may be stale, and `/readyz` reports it.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Config, Event, watcher},
    },
};
use serde::de::DeserializeOwned;

use crate::telemetry::Health;

/// The API server is busy, so it is there: a list would cost it more than the watch that it refused.
const TOO_MANY_REQUESTS: u16 = 429;

/// Watches without end, beginning with a list, which the API server streams where it can: objects arrive one by one instead of in
/// pages of five hundred, so a start takes little more memory than the cache, and one request. Where a stream ends before the
/// whole list has arrived, the watch asks for pages: something between here and the server may bear no more, and the stream would
/// be asked for again at once, and for ever. A watch that begins anew after an error asks for a stream again, unless the server
/// has said that it cannot stream. `/readyz` reports the watch by its name.
pub(super) fn watch<K>(
    api: Api<K>,
    config: Config,
    health: Arc<Health>,
    name: String,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType: Send + Sync> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    endless(api, config).inspect(move |event| match event {
        Ok(Event::InitDone) => health.watch_works(&name),
        Err(error) if may_have_another_past(error) => health.watch_broken(&name),
        _ => {}
    })
}

/// The same, of which `/readyz` reports nothing: of a kind that the cluster may lack.
pub(super) fn endless<K>(api: Api<K>, config: Config) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType: Send + Sync> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let begin = move |streamed| {
        let config = config.clone();
        watcher(api.clone(), if streamed { config.streaming_lists() } else { config }).boxed()
    };
    let first = Steps { events: begin(true), streamed: true, refused: false, listing: false };
    let steps = stream::unfold((first, begin), |(mut steps, begin)| async move {
        let event = steps.events.next().await?;
        if steps.is_not_streamed(&event) {
            steps = Steps { events: begin(false), streamed: false, listing: false, ..steps };
            return Some((None, (steps, begin)));
        }
        if event.as_ref().is_err_and(may_have_another_past) {
            let streamed = !steps.refused;
            steps = Steps { events: begin(streamed), streamed, listing: false, ..steps };
        }
        Some((Some(event), (steps, begin)))
    });
    steps.filter_map(futures::future::ready).default_backoff()
}

/// The state of a watch.
struct Steps<E> {
    events: E,
    /// Whether the list is streamed.
    streamed: bool,
    /// Whether the server said that it streams none.
    refused: bool,
    /// Whether the list has begun, and not all of it has come.
    listing: bool,
}

impl<E> Steps<E> {
    /// Whether the list could not be streamed, or ended before it was whole: then it begins again, without an error.
    fn is_not_streamed<K>(&mut self, event: &watcher::Result<Event<K>>) -> bool {
        let broke_off = self.listing && matches!(event, Ok(Event::Init));
        match event {
            Ok(Event::Init) => self.listing = true,
            Ok(Event::InitDone) => self.listing = false,
            _ => {}
        }
        let refused = event.as_ref().is_err_and(streams_no_lists);
        self.refused |= self.streamed && refused;
        self.streamed && (broke_off || refused)
    }
}

/// The answer of the API server that a watch failed with.
pub(super) fn refusal(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// The name of a watch.
pub(super) fn name(kind: &str, scope: Option<&str>) -> String {
    scope.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"))
}

fn may_have_another_past(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code != TOO_MANY_REQUESTS,
        // Not an object that cannot be read, which a list has too.
        watcher::Error::WatchFailed(error) => matches!(error, kube::Error::ReadEvents(_)),
        watcher::Error::WatchStartFailed(_) | watcher::Error::InitialListFailed(_) => true,
        _ => false,
    }
}

/// A server before 1.34, or one whose feature `WatchList` is off, calls the request invalid
/// (source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>).
fn streams_no_lists(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 400 | 422))
}

/// Delivers the objects of a list only when all of them have arrived: a store that the same events fill shows none of them
/// before, and a reconcile reads the store.
pub(super) fn whole_lists<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Send,
{
    events
        .scan(Vec::new(), |listed, event| {
            let delivered = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    vec![Ok(Event::Init)]
                }
                Ok(Event::InitApply(object)) => {
                    listed.push(object);
                    Vec::new()
                }
                Ok(Event::InitDone) => {
                    std::mem::take(listed).into_iter().map(Event::InitApply).chain([Event::InitDone]).map(Ok).collect()
                }
                other => vec![other],
            };
            futures::future::ready(Some(stream::iter(delivered)))
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;

    use super::*;

    fn named(name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map
    }

    fn words(events: Vec<watcher::Result<Event<ConfigMap>>>) -> Vec<String> {
        let word = |event: watcher::Result<Event<ConfigMap>>| match event {
            Ok(Event::Init) => "init".to_owned(),
            Ok(Event::InitApply(map)) => format!("listed {}", map.name_any()),
            Ok(Event::InitDone) => "done".to_owned(),
            Ok(Event::Apply(map)) => map.name_any(),
            Ok(Event::Delete(map)) => format!("gone {}", map.name_any()),
            Err(_) => "error".to_owned(),
        };
        events.into_iter().map(word).collect()
    }

    #[tokio::test]
    async fn a_list_is_delivered_when_it_is_whole_and_one_that_broke_off_never() {
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(named("a"))),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Init),
            Ok(Event::InitApply(named("b"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(named("c"))),
        ];
        let delivered = whole_lists(stream::iter(events)).collect().await;
        assert_eq!(words(delivered), ["init", "error", "init", "listed b", "done", "c"]);
    }

    #[test]
    fn a_list_that_begins_again_before_it_was_whole_is_streamed_no_more() {
        let mut steps = Steps { events: (), streamed: true, refused: false, listing: false };
        let events = [
            (Ok(Event::Init), false),
            (Ok(Event::InitApply(named("a"))), false),
            (Ok(Event::InitDone), false),
            // A watch that is too old lists again, which is no reason.
            (Ok(Event::Init), false),
            (Ok(Event::InitApply(named("a"))), false),
            (Err(watcher::Error::NoResourceVersion), false),
            (Ok(Event::Init), true),
        ];
        for (number, (event, expected)) in events.into_iter().enumerate() {
            assert_eq!(steps.is_not_streamed(&event), expected, "no. {number}");
        }
        assert!(!steps.refused, "the next one may be streamed");
        steps.streamed = false;
        assert!(!steps.is_not_streamed(&Ok(Event::<ConfigMap>::Init)), "pages are not given up for pages");
    }

    #[test]
    fn a_server_that_only_has_much_to_do_has_no_other_past() {
        let refused = |code| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)))
        };
        assert!(!may_have_another_past(&refused(429)));
        assert!(may_have_another_past(&refused(503)));
        assert!(may_have_another_past(&refused(410)));
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(may_have_another_past(&watcher::Error::WatchFailed(kube::Error::ReadEvents(reset))));
        let no_object = serde_json::from_str::<ConfigMap>("1").unwrap_err();
        assert!(!may_have_another_past(&watcher::Error::WatchFailed(kube::Error::SerdeError(no_object))));
        assert!(!may_have_another_past(&watcher::Error::NoResourceVersion));
    }
}
