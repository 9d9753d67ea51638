//! A mode of a data service costs a file in `stack` and one in `desired`, a line in the enums that name it, a field of the spec
//! and an example. All other code asks through traits, so it needs no change for a new mode.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use rorun_operator::{
    api::v1alpha1::{BUCKET_MODES, DATABASE_MODES, Modes, REDIS_MODES},
    cli,
};
use rstest::rstest;
use serde_json::Value;

use crate::support::{example, examples, is_of_stack};

#[rstest]
#[case("database", DATABASE_MODES)]
#[case("redis", REDIS_MODES)]
#[case("bucket", BUCKET_MODES)]
fn each_mode_of_the_definition_has_its_files_and_an_example(#[case] service: &str, #[case] modes: Modes) {
    let definition: Value = serde_saphyr::from_str(&cli::crd::yaml().unwrap()).unwrap();
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{service}/properties");
    let members = definition.pointer(&path).and_then(Value::as_object).unwrap();
    // A block is a mode; the other members, such as `versioning`, apply to each.
    let blocks = members.iter().filter(|(_, schema)| schema["type"] == "object").map(|(name, _)| name.as_str());
    assert_eq!(blocks.collect::<BTreeSet<_>>(), modes.iter().copied().collect::<BTreeSet<_>>());
    assert_eq!(modes[0], "embedded", "the mode of a stack without the block");
    let files = sources();
    let shown: Vec<Value> = manifests().iter().map(|path| serde_json::to_value(example(path).spec).unwrap()).collect();
    for mode in modes {
        for floor in ["stack", "desired"] {
            let file = format!("{floor}/{service}/{}.rs", snake_case(mode));
            assert!(files.contains_key(&file), "{file} is missing");
        }
        assert!(shown.iter().any(|spec| spec[service][mode].is_object()), "no example has {service}.{mode}");
    }
}

#[rstest]
#[case("database", DATABASE_MODES)]
#[case("redis", REDIS_MODES)]
#[case("bucket", BUCKET_MODES)]
fn the_enums_are_matched_exhaustively(#[case] service: &str, #[case] modes: Modes) {
    let files = sources();
    for floor in ["stack", "desired"] {
        let text = &files[&format!("{floor}/{service}/mod.rs")];
        assert!(!text.contains("_ =>"), "{floor}/{service}/mod.rs has an arm for any mode");
        for mode in modes {
            let arms = text.matches(&format!("::{}(mode) =>", pascal_case(mode))).count();
            assert_eq!(arms, 1, "arms for {mode} in {floor}/{service}/mod.rs");
        }
    }
}

/// As many files as a new mode touches: the types of the one that is there are named nowhere else.
#[rstest]
#[case("database", "ExternalDatabase")]
#[case("redis", "ExternalRedis")]
#[case("database", "EmbeddedDatabase")]
#[case("redis", "EmbeddedRedis")]
#[case("bucket", "EmbeddedBucket")]
fn the_block_of_a_mode_is_named_in_its_folder_alone(#[case] service: &str, #[case] block: &str) {
    let named: Vec<_> = sources().into_iter().filter(|(_, text)| has_word(text, block)).map(|(path, _)| path).collect();
    let file = if block.starts_with("External") { "external" } else { "embedded" };
    // `mod.rs` of an embedded mode holds its default.
    let mut expected = vec![format!("api/v1alpha1/{service}.rs"), format!("stack/{service}/{file}.rs")];
    expected.extend((file == "embedded").then(|| format!("stack/{service}/mod.rs")));
    expected.sort_unstable();
    assert_eq!(named, expected);
}

#[test]
fn no_other_code_knows_a_mode() {
    let services = ["database", "redis", "bucket"];
    let mut found = Vec::new();
    for (path, text) in sources() {
        let own = services.iter().any(|service| path.contains(&format!("/{service}/")));
        // The rules of the definition name modes, and the destination of backups has a member that is no mode.
        if own || path.starts_with("api/") || path == "stack/backup.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let variant = ["Embedded", "External"].iter().any(|mode| {
                ["Database", "Redis", "Bucket", "Resolved"].iter().any(|of| line.contains(&format!("{of}::{mode}")))
            });
            let member = [".embedded", ".external"].iter().any(|member| {
                let after = line.split(member).skip(1);
                after.into_iter().any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '('))
            });
            if variant || (member && !line.contains('"')) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_that_validation_calls_calls_it() {
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("stack/") && *path != "stack/mod.rs") {
        assert!(path == "stack/validate.rs" || !has_word(text, "validate"), "{path} names validate");
        assert!(path != "stack/defaults.rs" || !text.contains("super::"), "{path} names another module");
    }
}

/// The code of the crate by its path below `src`, without comments and tests.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let code: Vec<_> =
                    code.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect();
                files.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code.join("\n"));
            }
        }
    }
    assert!(files.len() > 100, "only {} files were found", files.len());
    files
}

fn manifests() -> Vec<PathBuf> {
    let paths = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml") && is_of_stack(path)).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// `cloudNativePG` is `cloud_native_pg`.
fn snake_case(mode: &str) -> String {
    let mut name = String::new();
    for (index, c) in mode.char_indices() {
        if c.is_uppercase() && !mode[..index].ends_with(char::is_uppercase) {
            name.push('_');
        }
        name.extend(c.to_lowercase());
    }
    name
}

/// `cloudNativePG` is `CloudNativePg`.
fn pascal_case(mode: &str) -> String {
    let words = snake_case(mode);
    let words = words.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

#[test]
fn names_of_modes_are_those_of_files_and_variants() {
    assert_eq!(
        ["embedded", "cloudNativePG", "elastiCache"].map(snake_case),
        ["embedded", "cloud_native_pg", "elasti_cache"]
    );
    assert_eq!(["embedded", "cloudNativePG", "rds"].map(pascal_case), ["Embedded", "CloudNativePg", "Rds"]);
}
