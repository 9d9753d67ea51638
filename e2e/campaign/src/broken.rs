//! An API that is broken as a whole, until it is mended.

use tokio::sync::watch;

/// How an API is broken, whatever of it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It answers with this code.
    Answers(u16),
    /// It does not answer.
    Hangs,
}

/// The group of the API that is broken, and how.
#[derive(Debug, Default)]
pub(super) struct BrokenApi(watch::Sender<Option<(String, Broken)>>);

impl BrokenApi {
    /// From now on this one is. `None`: none.
    pub(super) fn set(&self, broken: Option<(String, Broken)>) {
        self.0.send_replace(broken);
    }

    /// How the API is broken that a path is of.
    pub(super) fn at(&self, path: &str) -> Option<Broken> {
        of(self.0.borrow().as_ref(), path)
    }

    /// Ends when none is broken.
    pub(super) async fn until_mended(&self) {
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }

    /// Ends when the API of a path breaks.
    pub(super) fn until_broken(&self, path: String) -> impl Future<Output = ()> + Send + use<> {
        let mut changed = self.0.subscribe();
        Box::pin(async move {
            let _ = changed.wait_for(|broken| of(broken.as_ref(), &path).is_some()).await;
        })
    }
}

fn of(broken: Option<&(String, Broken)>, path: &str) -> Option<Broken> {
    let (group, how) = broken?;
    let rest = path.strip_prefix("/apis/")?.strip_prefix(group.as_str())?;
    (rest.is_empty() || rest.starts_with('/')).then_some(*how)
}
