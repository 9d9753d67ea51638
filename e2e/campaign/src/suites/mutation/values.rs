//! What is tried at each place: the ends of its range, nothing, what is of another type, and what the schema takes and nobody
//! can want.

use serde_json::{Value, json};

use super::schema::{Change, Form, Schema, form, sample};

/// Every value at every place, in the order of the schema.
pub(super) fn changes(schema: &Schema) -> Vec<Change> {
    let at = |(place, part): (String, &Value)| {
        let values = values(part, &place);
        values.into_iter().map(move |value| Change { place: place.clone(), value }).collect::<Vec<_>>()
    };
    schema.places().into_iter().flat_map(at).collect()
}

/// The change, and before one that takes something away, one that puts something there.
pub(super) fn steps(schema: &Schema, change: Change) -> Vec<Change> {
    if change.value.is_some() {
        return vec![change];
    }
    let part = schema.places().into_iter().find(|(place, _)| *place == change.place).map(|(_, part)| part);
    let there =
        part.and_then(|part| values(part, &change.place).swap_remove(0)).or_else(|| Some(sample(part?, &change.place)));
    vec![Change { value: there, ..change.clone() }, change]
}

/// What Kubernetes itself looks at, and the operator passes on: fewer values are enough to see that it does.
fn is_passed_on(place: &str) -> bool {
    ["/affinity/", "/topologySpreadConstraints/", "/valueFrom/", "/tolerations/"]
        .iter()
        .any(|part| place.contains(part))
}

/// Parts that are as those of the API, with the same code behind them.
fn is_like_another(place: &str) -> bool {
    place.starts_with("ocr/") || place.starts_with("admin/")
}

fn values(schema: &Value, place: &str) -> Vec<Option<Value>> {
    let form = form(schema);
    if is_passed_on(place) || is_like_another(place) {
        let few = match form {
            Form::Leaf => leaf(schema, place).into_iter().take(3).map(Some).collect(),
            Form::List => lists(&schema["items"], place, None).into_iter().skip(1).take(1).map(Some).collect(),
            Form::Map | Form::Block => Vec::new(),
        };
        return few;
    }
    let mut values = match form {
        Form::List => lists(&schema["items"], place, schema["maxItems"].as_u64()),
        Form::Map => maps(&schema["additionalProperties"], place),
        // Its members are places of their own.
        Form::Block if place.ends_with("[]") => return Vec::new(),
        Form::Block => vec![],
        Form::Leaf => leaf(schema, place),
    };
    let mut values: Vec<Option<Value>> = values.drain(..).map(Some).collect();
    values.push(None);
    values
}

fn leaf(schema: &Value, place: &str) -> Vec<Value> {
    if schema["x-kubernetes-int-or-string"] == true {
        return vec![json!("0"), json!("1m"), json!("100Ti"), json!("x"), json!(1)];
    }
    if let Some(known) = schema["enum"].as_array() {
        let mut values = known.clone();
        values.truncate(4);
        values.push(json!("Nonsense"));
        // There is no other value to change to: one that differs in case alone is refused too.
        if let [Value::String(only)] = known.as_slice() {
            values.push(json!(only.to_lowercase()));
        }
        return values;
    }
    match schema["type"].as_str() {
        Some("integer") => integers(schema, place),
        Some("boolean") => vec![json!(true), json!(false), json!("yes")],
        _ => texts(schema, place),
    }
}

fn integers(schema: &Value, place: &str) -> Vec<Value> {
    match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(low), Some(high)) => vec![json!(low), json!(high), json!(low - 1), json!(high + 1), json!("x")],
        _ if place.ends_with("weight") => vec![json!(2), json!(0), json!(100), json!(101), json!(1.5)],
        _ => vec![json!(2), json!(0), json!(-1), json!(i64::MAX), json!("x")],
    }
}

/// What Kubernetes takes at a place of its own types, which say only that it is text; and what it does not.
const WORDS: &[(&str, &[&str])] = &[
    ("matchFields/[]/key", &["metadata.name", "nothing", ""]),
    ("matchFields/[]/operator", &["NotIn", "exists", ""]),
    ("Ref/name", &["others", "nothing", ""]),
    ("caSecretRef/key", &["root.pem", "nothing", ""]),
    ("KeyRef/key", &["other", "nothing", ""]),
    ("accessKeyIdKey", &["other", "nothing", ""]),
    ("secretAccessKeyKey", &["other", "nothing", ""]),
    ("sessionTokenKey", &["other", "nothing", ""]),
    ("database/external/secretRef/urlKey", &["READ_URL", "nothing", ""]),
    ("redis/external/secretRef/urlKey", &["CACHE_URL", "nothing", ""]),
    ("directUrlKey", &["READ_URL", "nothing", ""]),
    ("readUrlKey", &["DIRECT_URL", "nothing", ""]),
    ("operator", &["DoesNotExist", "exists", ""]),
    ("effect", &["NoSchedule", "Never", "NoExecute"]),
    ("whenUnsatisfiable", &["ScheduleAnyway", "Perhaps", ""]),
    ("nodeAffinityPolicy", &["Ignore", "Perhaps", ""]),
    ("nodeTaintsPolicy", &["Honor", "Perhaps", ""]),
    ("fieldPath", &["status.podIP", "spec.nonsense", ""]),
    ("resource", &["requests.memory", "limits.nonsense", ""]),
    ("fieldRef/apiVersion", &["v1", "v2", ""]),
    ("topologyKey", &["topology.kubernetes.io/zone", "no key", ""]),
    ("image", &["no-tag", "r.example.com:5000/team/app@sha256:00ff", "two words", "", "bïld:1"]),
    ("registry", &["localhost:5000/mirror", "UPPER.example.com/x", "no registry", "", "regïstry"]),
    ("schedule", &["0 0 31 2 *", "@weekly", "61 * * * *", "* * * *", "@ünd"]),
    ("timeZone", &["Africa/Lagos", "Nowhere/City", "../etc/passwd", "", "Zürich"]),
    ("health/path", &["/", "/hêalth?x=1", "no-slash", ""]),
    ("database/embedded/version", &["17", "16", "12", "", "latest"]),
    ("endpoint", &["http://127.0.0.1:2", "https://nothing.invalid/s3", "ftp://a", "http://u@h", ""]),
    ("env/[]/name", &["LOG_LEVEL", "DATABASE_URL", "A=B", "", "1 A"]),
];

fn texts(schema: &Value, place: &str) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    if let Some((_, words)) = WORDS.iter().find(|(end, _)| place.ends_with(end)) {
        values.extend(words.iter().map(|word| json!(word)));
    } else if place.ends_with("Host") || place.ends_with("host") {
        let label = "a".repeat(61);
        let long = |last: usize| format!("{label}.{label}.{label}.{label}.{}", "b".repeat(last));
        values.extend([
            json!("other.example.com"),
            json!(long(5)),
            json!(long(6)),
            json!("UPPER.example.com"),
            json!("bücher.example"),
        ]);
    } else {
        // The first is what the schema and Kubernetes take, if they take anything.
        values.extend([json!("nothing"), json!(""), json!("ünï/../x")]);
    }
    values.extend(long(schema));
    values
}

/// The longest text, and one that is too long; where the schema has no limit, what is too long for a label and for a name.
fn long(schema: &Value) -> Vec<Value> {
    match schema["maxLength"].as_u64().and_then(|length| usize::try_from(length).ok()) {
        Some(limit) => vec![json!("a".repeat(limit)), json!("a".repeat(limit + 1))],
        None => vec![json!("a".repeat(63)), json!("ü".repeat(127))],
    }
}

fn lists(item: &Value, place: &str, limit: Option<u64>) -> Vec<Value> {
    let one = sample(item, &format!("{place}/[]"));
    let numbered = |index: usize| numbered(&one, index);
    let many = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(300);
    vec![
        json!([]),
        json!([one, numbered(1)]),
        json!([numbered(1), one]),
        json!([one, one]),
        json!((0..=many).map(numbered).collect::<Vec<_>>()),
    ]
}

/// As the item, but not the same.
fn numbered(item: &Value, index: usize) -> Value {
    let mut item = item.clone();
    match &mut item {
        Value::String(text) => *text = format!("{text}-{index}"),
        Value::Object(members) => {
            for name in ["name", "key", "prefix"] {
                if let Some(Value::String(text)) = members.get_mut(name) {
                    *text = format!("{text}-{index}").replace("metadata.name-", "metadata.name");
                    return item;
                }
            }
        }
        _ => {}
    }
    item
}

fn maps(member: &Value, place: &str) -> Vec<Value> {
    if place.contains("/resources/") {
        let one = json!({"memory": "64Mi"});
        return vec![
            json!({}),
            one,
            json!({"cpu": "2", "memory": "3Gi"}),
            json!({"example.com/gpu": "1"}),
            json!({"no key": "1"}),
        ];
    }
    let one = sample(member, &format!("{place}/{{}}"));
    let many: Value = (0..200).map(|index| (format!("example.com/k{index}"), one.clone())).collect();
    vec![json!({}), json!({"team": one, "app.kubernetes.io/name": one}), many, json!({"no key ü": one})]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_leaf_is_tried_with_at_least_three_values() {
        let schema = Schema::read().expect("a schema");
        let mut tried = BTreeMap::<String, usize>::new();
        for change in changes(&schema) {
            *tried.entry(change.place).or_default() += 1;
        }
        for (place, part) in schema.places().iter().filter(|(_, part)| form(part) == Form::Leaf) {
            let count = tried.get(place).copied().unwrap_or_default();
            assert!((3..=8).contains(&count), "{place}: {count} {part}");
        }
    }
}
