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
    // So do these blocks, whatever the mode.
    let of_each = ["lifecycle", "cors", "replication"];
    let blocks = members.iter().filter(|(_, schema)| schema["type"] == "object").map(|(name, _)| name.as_str());
    let blocks = blocks.filter(|name| service != "bucket" || !of_each.contains(name));
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

/// The types of the blocks, by service and mode.
const BLOCKS: [(&str, &str, &str); 10] = [
    ("database", "embedded", "EmbeddedDatabase"),
    ("database", "external", "ExternalDatabase"),
    ("database", "cloudNativePG", "CloudNativePgDatabase"),
    ("database", "rds", "RdsDatabase"),
    ("redis", "embedded", "EmbeddedRedis"),
    ("redis", "external", "ExternalRedis"),
    ("redis", "elastiCache", "ElastiCacheRedis"),
    ("bucket", "embedded", "EmbeddedBucket"),
    ("bucket", "external", "ExternalBucket"),
    ("bucket", "s3", "S3Bucket"),
];

/// What a mode costs beside files of its own: how many lines of these name it, at most.
const COSTS: [(&str, usize); 4] = [
    ("api/v1alpha1/{service}.rs", 4),
    ("api/v1alpha1/mod.rs", 2),
    ("stack/{service}/mod.rs", 10),
    ("desired/{service}/mod.rs", 5),
];

#[test]
fn every_mode_is_counted() {
    for (service, modes) in [("database", DATABASE_MODES), ("redis", REDIS_MODES), ("bucket", BUCKET_MODES)] {
        let counted: Vec<_> = BLOCKS.iter().filter(|(of, ..)| *of == service).map(|(_, mode, _)| *mode).collect();
        assert_eq!(counted, modes, "{service}");
    }
}

/// As many files and lines as a new mode touches: those that name one which is there.
#[test]
fn a_mode_costs_its_files_and_a_few_lines_of_four_others() {
    let files = sources();
    for (service, mode, block) in BLOCKS {
        let (file, variant) = (snake_case(mode), pascal_case(mode));
        let own = [
            format!("api/v1alpha1/{file}.rs"),
            format!("stack/{service}/{file}.rs"),
            format!("desired/{service}/{file}.rs"),
        ];
        let mut names = 0;
        for (path, text) in files.iter().filter(|(path, _)| !own.contains(path)) {
            let limit =
                COSTS.iter().find(|(of, _)| of.replace("{service}", service) == **path).map_or(0, |(_, limit)| *limit);
            // Of the shared files every name counts; elsewhere those that are of this mode alone.
            let shared = limit > 0 && path != "api/v1alpha1/mod.rs";
            let names_it = |line: &&str| {
                let code = without_texts(line);
                let own = [block, if shared { &variant } else { block }, if shared { &file } else { block }];
                own.iter().any(|name| has_word(&code, name))
            };
            // A bucket of somebody's is also where backups go.
            if block == "ExternalBucket" && !shared {
                continue;
            }
            let lines: Vec<_> = text.lines().filter(names_it).collect();
            assert!(
                lines.len() <= limit,
                "{service}.{mode} costs {} lines of {path}, at most {limit}: {lines:#?}",
                lines.len()
            );
            names += lines.len();
        }
        assert!((4..=16).contains(&names), "{service}.{mode} is named in {names} lines of files that are not its own");
    }
}

/// No other code reads the member of a mode or names its variant.
#[test]
fn no_other_code_knows_a_mode() {
    let services = ["database", "redis", "bucket"];
    let mut found = Vec::new();
    for (path, text) in sources() {
        let own = services.iter().any(|service| path.contains(&format!("/{service}/")));
        // The rules of the definition name modes, and the destination of backups has a member that is no mode.
        if own || path.starts_with("api/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = without_texts(line);
            let of_backup = path == "stack/backup.rs";
            if BLOCKS
                .iter()
                .any(|(service, mode, _)| knows(&code, service, mode) && !(of_backup && *mode == "external"))
            {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Whether a line of code names the variant of a mode, or reads its member.
fn knows(code: &str, service: &str, mode: &str) -> bool {
    let (file, variant) = (snake_case(mode), pascal_case(mode));
    let enums = [pascal_case(service), "Resolved".to_owned()];
    let reads = |member: &str| {
        let mut after = code.split(member).skip(1);
        after.any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '('))
    };
    let variant = enums.iter().any(|of| has_word(&code.replace("::", "_of_"), &format!("{of}_of_{variant}")));
    // Secrets say `s3` as well.
    variant || reads(&if mode == "s3" { "bucket.s3".to_owned() } else { format!(".{file}") })
}

#[rstest]
#[case("match stack.database { Database::Rds(mode) => {} }", true)]
#[case("let cluster = database.cloud_native_pg.as_ref();", true)]
#[case("spec.bucket.s3.is_some()", true)]
#[case("found.s3", false)]
#[case("stack.external_services", false)]
#[case("mode.embedded()", false)]
fn what_knows_a_mode_is_found(#[case] code: &str, #[case] found: bool) {
    assert_eq!(BLOCKS.iter().any(|(service, mode, _)| knows(code, service, mode)), found);
}

/// A line with nothing between its quotation marks.
fn without_texts(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
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
