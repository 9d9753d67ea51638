//! The watches that go through the proxy: they deliver all events, late, twice, or never.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures::future::pending;
use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;

use super::sync::lock;

type Error = Box<dyn std::error::Error + Send + Sync>;
/// The body of a watch of the API server.
pub(super) type Source = BoxStream<'static, Result<Bytes, Error>>;

/// The answer of the API server when it no longer has the resourceVersion of a watch.
const GONE: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old, by the plan","reason":"Expired","code":410}}"#,
    "\n"
);

/// A fault of the watches of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// They wait.
    Hold,
    /// They lose their events.
    Miss,
    /// They deliver everything twice.
    Repeat,
    /// They end after so many events.
    Cut(usize),
    /// Those that were opened before this one never deliver anything any more.
    Stall(u64),
    /// Those that were opened before this one end with 410.
    Expire(u64),
}

#[derive(Debug, Default)]
struct Contents {
    /// By resource; none is every resource.
    rules: Vec<(Option<String>, Rule)>,
    next: u64,
}

/// All watches.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    contents: Arc<watch::Sender<Contents>>,
    open: Arc<Mutex<Open>>,
}

/// The watches that there are.
#[derive(Debug, Default)]
struct Open {
    /// Those that are open, by number, with their resource.
    watches: BTreeMap<u64, String>,
    /// Resources of which a watch was ended and is to be opened again.
    awaited: Vec<String>,
}

impl Streams {
    pub(super) fn new() -> Streams {
        Streams { contents: Arc::new(watch::Sender::new(Contents::default())), open: Arc::default() }
    }

    /// A watch of the resource could not be opened, and is to be opened again.
    pub(super) fn await_again(&self, resource: &str) {
        lock(&self.open).awaited.push(resource.to_owned());
    }

    /// From now on this is done to the watches of the resource, or of all.
    pub(super) fn disturb(&self, resource: Option<&str>, rule: Rule) {
        self.contents.send_modify(|contents| contents.rules.push((resource.map(str::to_owned), rule)));
    }

    /// Stalls the open watches.
    pub(super) fn stall(&self, resource: &str) {
        let next = self.contents.borrow().next;
        self.disturb(Some(resource), Rule::Stall(next));
    }

    /// Ends a fault. Watches that lost events end with 410.
    pub(super) fn release(&self, resource: Option<&str>, rule: Rule) {
        self.contents.send_modify(|contents| {
            contents.rules.retain(|(of, there)| of.as_deref() != resource || *there != rule);
            if rule == Rule::Miss {
                contents.rules.push((resource.map(str::to_owned), Rule::Expire(contents.next)));
            }
        });
    }

    /// Whether something is done that will end.
    pub(super) fn are_disturbed(&self) -> bool {
        let contents = self.contents.borrow();
        let open = lock(&self.open);
        let rules = contents.rules.iter().any(|(of, rule)| match rule {
            Rule::Hold | Rule::Miss => true,
            Rule::Stall(before) | Rule::Expire(before) => {
                open.watches.iter().any(|(id, resource)| id < before && of.as_ref().is_none_or(|of| of == resource))
            }
            Rule::Repeat | Rule::Cut(_) => false,
        });
        rules || !open.awaited.is_empty()
    }

    /// The watch as the operator receives it.
    pub(super) fn forward(
        &self,
        resource: &str,
        source: Source,
    ) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + use<> {
        let mut id = 0;
        self.contents.send_modify(|contents| {
            id = contents.next;
            contents.next += 1;
        });
        {
            let mut open = lock(&self.open);
            open.watches.insert(id, resource.to_owned());
            if let Some(index) = open.awaited.iter().position(|awaited| awaited == resource) {
                open.awaited.swap_remove(index);
            }
        }
        let watched = Watched {
            id,
            resource: resource.to_owned(),
            source,
            contents: self.contents.subscribe(),
            partial: Vec::new(),
            lines: VecDeque::new(),
            reported: 0,
            ended: false,
            open: Arc::clone(&self.open),
        };
        unfold(watched, |mut watched| async move {
            let line = watched.next().await?;
            Some((line.map(Frame::data), watched))
        })
    }
}

struct Watched {
    id: u64,
    resource: String,
    source: Source,
    contents: watch::Receiver<Contents>,
    /// The beginning of a line.
    partial: Vec<u8>,
    /// Events that were not delivered yet.
    lines: VecDeque<Bytes>,
    reported: usize,
    ended: bool,
    open: Arc<Mutex<Open>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let stalled = matches!(self.rule(), Some(Rule::Stall(_)));
        let mut open = lock(&self.open);
        open.watches.remove(&self.id);
        if stalled && !self.ended {
            open.awaited.push(self.resource.clone());
        }
    }
}

impl Watched {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if self.ended {
                return None;
            }
            match self.rule() {
                Some(Rule::Stall(_)) => pending::<()>().await,
                Some(Rule::Expire(_)) => {
                    self.end();
                    return Some(Ok(Bytes::from_static(GONE.as_bytes())));
                }
                Some(Rule::Hold) => {}
                Some(Rule::Miss) => self.lines.clear(),
                Some(Rule::Repeat) => {
                    if let Some(line) = self.lines.pop_front() {
                        return Some(Ok([&line[..], &line[..]].concat().into()));
                    }
                }
                Some(Rule::Cut(after)) => {
                    if let Some(line) = self.tell() {
                        if self.reported >= after {
                            self.end();
                        }
                        return Some(Ok(line));
                    }
                }
                None => {
                    if let Some(line) = self.tell() {
                        return Some(Ok(line));
                    }
                }
            }
            tokio::select! {
                data = self.source.next() => match data {
                    Some(Ok(data)) => self.take(&data),
                    Some(Err(error)) => return Some(Err(error)),
                    // Delayed events are delivered all the same.
                    None if self.lines.is_empty() => return None,
                    None => drop(self.contents.changed().await),
                },
                _ = self.contents.changed() => {}
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        lock(&self.open).awaited.push(self.resource.clone());
    }

    fn tell(&mut self) -> Option<Bytes> {
        let line = self.lines.pop_front()?;
        self.reported += 1;
        Some(line)
    }

    /// The rule that counts: the first that means this watch.
    fn rule(&mut self) -> Option<Rule> {
        let contents = self.contents.borrow_and_update();
        let means = |(of, rule): &&(Option<String>, Rule)| {
            of.as_ref().is_none_or(|of| *of == self.resource)
                && match rule {
                    Rule::Stall(before) | Rule::Expire(before) => self.id < *before,
                    _ => true,
                }
        };
        contents.rules.iter().find(means).map(|(_, rule)| *rule)
    }

    fn take(&mut self, data: &[u8]) {
        self.partial.extend_from_slice(data);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.lines.push_back(line.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::channel::mpsc;

    use super::*;

    type Forwarded = BoxStream<'static, Result<Frame<Bytes>, Error>>;

    fn watched(streams: &Streams) -> (mpsc::UnboundedSender<Result<Bytes, Error>>, Forwarded) {
        let (sender, source) = mpsc::unbounded();
        (sender, streams.forward("secrets", source.boxed()).boxed())
    }

    fn send(sender: &mpsc::UnboundedSender<Result<Bytes, Error>>, text: &'static str) {
        sender.unbounded_send(Ok(Bytes::from_static(text.as_bytes()))).expect("it is open");
    }

    async fn reported(stream: &mut Forwarded) -> String {
        let frame = stream.next().await.expect("a line").expect("no error");
        String::from_utf8_lossy(frame.data_ref().expect("data")).into_owned()
    }

    async fn is_silent(stream: &mut Forwarded) -> bool {
        tokio::time::timeout(Duration::from_millis(20), stream.next()).await.is_err()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_held_comes_later_in_order_and_of_no_other_resource() {
        let streams = Streams::new();
        let (sender, mut stream) = watched(&streams);
        send(&sender, "a\nb");
        assert_eq!(reported(&mut stream).await, "a\n");
        streams.disturb(Some("services"), Rule::Hold);
        send(&sender, "b\n");
        assert_eq!(reported(&mut stream).await, "bb\n");
        streams.disturb(Some("secrets"), Rule::Hold);
        send(&sender, "c\nd\n");
        assert!(is_silent(&mut stream).await && streams.are_disturbed());
        streams.release(Some("secrets"), Rule::Hold);
        streams.release(Some("services"), Rule::Hold);
        assert_eq!((reported(&mut stream).await, reported(&mut stream).await), ("c\n".to_owned(), "d\n".to_owned()));
        assert!(!streams.are_disturbed());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_missed_never_comes_and_the_watch_ends_with_410() {
        let streams = Streams::new();
        let (sender, mut stream) = watched(&streams);
        streams.disturb(Some("secrets"), Rule::Miss);
        send(&sender, "a\n");
        assert!(is_silent(&mut stream).await);
        streams.release(Some("secrets"), Rule::Miss);
        assert!(reported(&mut stream).await.contains("410"));
        assert!(stream.next().await.is_none());
        drop(stream);
        assert!(streams.are_disturbed(), "it is to be opened again");
        let (sender, mut next) = watched(&streams);
        send(&sender, "b\n");
        assert_eq!(reported(&mut next).await, "b\n");
        assert!(!streams.are_disturbed());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn twice_cut_and_stalled() {
        let streams = Streams::new();
        let (sender, mut stream) = watched(&streams);
        streams.disturb(Some("secrets"), Rule::Repeat);
        send(&sender, "a\n");
        assert_eq!(reported(&mut stream).await, "a\na\n");
        streams.release(Some("secrets"), Rule::Repeat);
        streams.disturb(None, Rule::Cut(1));
        send(&sender, "b\nc\n");
        assert_eq!(reported(&mut stream).await, "b\n");
        assert!(stream.next().await.is_none());
        drop(stream);
        streams.release(None, Rule::Cut(1));
        let (sender, mut stream) = watched(&streams);
        streams.stall("secrets");
        send(&sender, "d\n");
        assert!(is_silent(&mut stream).await && streams.are_disturbed());
        drop(stream);
        assert!(streams.are_disturbed(), "it is to be opened again");
        let (_sender, _stream) = watched(&streams);
        assert!(!streams.are_disturbed());
    }
}
