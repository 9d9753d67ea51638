//! A watch that begins with a list, which the server streams where it can: objects come one by one instead of in pages of
//! five hundred, so a start takes little more memory than what is kept, and one request for each kind.

use std::fmt::Debug;

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use kube::{
    Api, Error, Resource,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;

type Events<K> = BoxStream<'static, Result<watcher::Event<K>, watcher::Error>>;

/// Events of a watch, for ever; it is tried again by itself.
pub(super) fn listed<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let streamed = begin(api.clone(), config.clone().streaming_lists());
    let steps = stream::unfold((streamed, Some((api, config))), |(mut events, mut otherwise)| async {
        let event = events.next().await?;
        if let Err(error) = &event
            && streams_no_lists(error)
            && let Some((api, config)) = otherwise.take()
        {
            return Some((None, (begin(api, config), None)));
        }
        Some((Some(event), (events, otherwise)))
    });
    steps.filter_map(std::future::ready)
}

fn begin<K>(api: Api<K>, config: watcher::Config) -> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config).default_backoff().boxed()
}

/// A server before 1.34, or one whose feature `WatchList` is off, calls the request invalid
/// (source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>).
fn streams_no_lists(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(Error::Api(status)) | watcher::Error::WatchStartFailed(Error::Api(status))) =
        error
    else {
        return false;
    };
    matches!(status.code, 400 | 422)
}
