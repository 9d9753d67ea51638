//! What the operator tells a dump of the stack that it is of, so that a recovery point says what to make anew where only the bucket is left.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The spec of the stack, in the folder of a recovery point: a RorunStack as JSON, compressed by zstd, and encrypted as the dump is.
pub const SPEC_FILE: &str = "spec.json.zst";
/// The stack that a dump is of, as [`PointOrigin::text`] writes it.
pub const ENV_ORIGIN: &str = "BACKUP_ORIGIN";

/// The longest text. Linux starts no program with a variable of 128 KiB.
pub const LONGEST_ORIGIN: usize = 96 * 1024;
/// No spec is as long: the API server stores no object of this size.
const LONGEST_JSON: usize = 4 * 1024 * 1024;
/// Fast, and a quarter of the text.
const LEVEL: i32 = 3;

/// The stack that a recovery point is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PointOrigin {
    /// The RorunStack with its name, its namespace and its spec, as users wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<Value>,
    /// How many bytes of JSON it has, where it is too long for a variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<usize>,
    /// The images that serve, by workload, with the digests that are known, sorted: several where pods ran several under one tag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Vec<String>>,
    /// Which of several its pods run now, by workload, where all of them run the same: it is the code that goes with the data.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub running: BTreeMap<String, String>,
}

impl PointOrigin {
    /// As a variable holds it: neither Kubernetes nor a shell finds anything in it to replace. Without the stack where it would be too
    /// long.
    pub fn text(&self) -> String {
        let whole = encoded(self);
        if whole.len() <= LONGEST_ORIGIN {
            return whole;
        }
        let left_out = self.stack.as_ref().map(|stack| stack.to_string().len());
        encoded(&Self { stack: None, left_out, images: self.images.clone(), running: self.running.clone() })
    }

    /// Reads a variable, or says why it cannot.
    pub fn read(text: &str) -> Result<Self, String> {
        let compressed = BASE64_STANDARD.decode(text.trim()).map_err(|error| error.to_string())?;
        serde_json::from_value(decompress_spec(&compressed)?).map_err(|error| error.to_string())
    }
}

/// In memory nothing of it fails; an empty text would be told by whoever reads it.
fn encoded(origin: &PointOrigin) -> String {
    let compressed = serde_json::to_value(origin).ok().and_then(|json| compress_spec(&json));
    BASE64_STANDARD.encode(compressed.unwrap_or_default())
}

/// JSON as [`SPEC_FILE`] has it. `None`: it cannot be compressed.
pub fn compress_spec(json: &Value) -> Option<Vec<u8>> {
    zstd::bulk::compress(json.to_string().as_bytes(), LEVEL).ok()
}

/// Reads it again, or says why it cannot.
pub fn decompress_spec(compressed: &[u8]) -> Result<Value, String> {
    let text = zstd::bulk::decompress(compressed, LONGEST_JSON).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A text that does not become shorter.
    fn noise(bytes: u64) -> String {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{:016x}", state ^ (state >> 29))
        };
        (0..bytes.div_ceil(16)).map(next).collect()
    }

    fn origin(note: &str) -> PointOrigin {
        let stack = json!({"kind": "RorunStack", "spec": {"api": {"env": [{"name": "A", "value": note}]}}});
        PointOrigin {
            stack: Some(stack),
            left_out: None,
            images: [("api".to_owned(), vec!["api:1".to_owned(), "api:1@sha256:0".to_owned()])].into(),
            running: [("api".to_owned(), "api:1@sha256:0".to_owned())].into(),
        }
    }

    #[test]
    fn a_stack_is_read_as_it_was_written() {
        for note in ["", "$(HOME) ${HOME} `id` \u{20ac}\n", &"a".repeat(300_000)] {
            let text = origin(note).text();
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)), "{text}");
            assert_eq!(PointOrigin::read(&text), Ok(origin(note)));
            assert_eq!(origin(note).text(), text, "the same each time, so that nothing is written for it");
        }
    }

    #[test]
    fn a_stack_that_is_too_long_is_left_out_and_its_images_are_told() {
        let long = origin(&noise(300_000));
        let read = PointOrigin::read(&long.text()).expect("an origin");
        assert_eq!((read.stack, read.images, read.running), (None, long.images, long.running));
        assert!(read.left_out.is_some_and(|bytes| bytes > 300_000));
        // What a stack of many variables has still goes.
        let much = origin(&noise(90_000));
        assert!(much.text().len() <= LONGEST_ORIGIN && PointOrigin::read(&much.text()) == Ok(much));
    }

    #[test]
    fn what_is_none_is_told() {
        for text in ["", "???", "c29tZXRoaW5n"] {
            assert!(PointOrigin::read(text).is_err(), "{text}");
        }
        assert!(decompress_spec(b"").is_err());
        let bomb = zstd::bulk::compress(&vec![b' '; LONGEST_JSON + 1], LEVEL).expect("compressed");
        assert!(decompress_spec(&bomb).is_err(), "what is longer than any spec is not read");
    }
}
