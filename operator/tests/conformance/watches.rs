//! Lists and watches, whole and of metadata alone, with and without a selector.

use serde_json::Value;

use crate::pair::Pair;

const WHOLE: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// In the bookmark that ends a streamed list.
const LIST_ENDS: &str = "k8s.io/initial-events-end";
const STREAMED: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

/// Compares what both tell of all that happened since some versions.
pub async fn lists_and_watches_tell_the_same(pair: &Pair, since: &[(String, String, String)]) {
    for (path, real, model) in since {
        for selector in ["", "&labelSelector=a%3Dxxxx", "&labelSelector=a%3Dxxxx,b%3Dyyyy"] {
            for (watch, list) in [(WHOLE, WHOLE), (METADATA, METADATA_LIST)] {
                let at = format!("{path}?limit=500{selector}");
                let (one, other) = pair.texts((&at, &at), list).await;
                assert_eq!(listed(&one), listed(&other), "{at}");
                let at = format!("{path}?watch=true&timeoutSeconds=30&{STREAMED}{selector}");
                let (one, other) = pair.lines((&at, &at), watch, LIST_ENDS).await;
                assert_eq!(streamed(&one), streamed(&other), "{at}");
                let at = |version: &str, seconds: usize| {
                    format!("{path}?watch=true&timeoutSeconds={seconds}&resourceVersion={version}{selector}")
                };
                let (one, other) = pair.texts((&at(real, 1), &at(model, 1)), watch).await;
                let (mut one, other) = (events(&one), events(&other));
                if one.len() < other.len() {
                    // All of it has happened, so a server that is slow needs only more time to tell it.
                    one = events(&pair.texts((&at(real, 10), &at(model, 1)), watch).await.0);
                }
                let at = at(real, 1);
                let (lengths, different) =
                    ((one.len(), other.len()), one.iter().zip(&other).find(|(one, other)| one != other));
                assert!(different.is_none() && lengths.0 == lengths.1, "{at}: {lengths:?} {different:?}");
                assert!(selector.len() > 30 || one.len() > 10, "only {} events of {at}", one.len());
            }
        }
    }
}

/// Kind and name of each object of a streamed list, and the kind of the bookmark that ends it.
fn streamed(text: &str) -> (Vec<(String, String)>, String) {
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |event: &Value| {
        let object = &event["object"];
        (object["kind"].to_string(), object["metadata"]["name"].to_string())
    };
    let mut objects: Vec<_> = events.iter().filter(|event| event["type"] == "ADDED").map(of).collect();
    // The order of a streamed list is not promised.
    objects.sort();
    let ends = |event: &&Value| event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
    let end = events.iter().find(ends).unwrap_or_else(|| panic!("no end in {text}"));
    (objects, end["object"]["kind"].to_string())
}

fn listed(text: &str) -> (Value, Vec<Value>) {
    let list: Value = serde_json::from_str(text).expect("a list");
    let items = list["items"].as_array().cloned().unwrap_or_default();
    (list["kind"].clone(), items.iter().map(|item| item["metadata"]["name"].clone()).collect())
}

/// Type, kind and name of each event, in order, with the labels.
fn events(text: &str) -> Vec<(Value, Value, Value, Value)> {
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = events.filter(|event| event["type"] != "BOOKMARK").map(|event| {
        let metadata = &event["object"]["metadata"];
        (event["type"].clone(), event["object"]["kind"].clone(), metadata["name"].clone(), metadata["labels"].clone())
    });
    told.collect()
}
