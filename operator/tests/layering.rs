//! The floors of the source tree: a module imports only what [`FLOORS`] allows, and some words must not occur in it at all.
//!
//! Every violation is reported at once, with its file and line. Code of tests is free, and so is what tests are made of.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test are tests too, which clippy does not know"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// A module of the crate, what it may import, and which words it may not contain.
struct Floor {
    module: &'static str,
    may_import: &'static [&'static str],
    forbidden: &'static [&'static [&'static str]],
}

/// What reaches out of the process.
const OUTSIDE: &[&str] =
    &["Client", "tokio", "async fn", "async move", ".await", "rand", "env::var", "std::env", "std::fs"];
/// What differs from one call to the next.
const CLOCK: &[&str] = &["SystemTime", "Instant", "Timestamp::now", "Zoned::now"];
/// The step that decides what is wanted cannot fail.
const FAILURE: &[&str] = &["Result"];
/// What runs inside a pod has no access to the API server.
const KUBERNETES: &[&str] = &["kube", "k8s_openapi"];
/// The apply step knows objects and no component.
const COMPONENTS: &[&str] = &["Component::Api", "Component::Database", "Component::Redis", "Component::Bucket"];

/// The runtime knows types by their traits alone.
const STACKS: &[&str] = &["RorunStack", "Component"];

const PURE: &[&[&str]] = &[OUTSIDE, CLOCK];

/// Words of ours that types were named by, where Kubernetes and Rust have words of their own.
const GONE: &[&str] = &[
    "Arena",
    "Assumption",
    "Bed",
    "Ground",
    "Often",
    "Others",
    "Passes",
    "Patience",
    "Placed",
    "Room",
    "Scene",
    "Seen",
    "Site",
    "There",
    "World",
];

/// In floor order, lowest first; `services`, `telemetry` and `agent` stand beside.
const FLOORS: &[Floor] = &[
    Floor { module: "names", may_import: &[], forbidden: PURE },
    Floor { module: "quantity", may_import: &[], forbidden: PURE },
    Floor { module: "api", may_import: &["names"], forbidden: PURE },
    Floor { module: "contract", may_import: &["names"], forbidden: PURE },
    Floor { module: "objects", may_import: &["names", "quantity"], forbidden: PURE },
    Floor { module: "stack", may_import: &["names", "quantity", "api", "contract"], forbidden: PURE },
    Floor { module: "plan", may_import: &["names", "api", "contract", "stack"], forbidden: PURE },
    Floor {
        module: "desired",
        may_import: &["names", "api", "contract", "objects", "stack", "plan"],
        forbidden: &[OUTSIDE, CLOCK, FAILURE],
    },
    Floor { module: "apply", may_import: &["names", "objects"], forbidden: &[COMPONENTS] },
    Floor { module: "runtime", may_import: &["names", "objects", "apply", "telemetry"], forbidden: &[STACKS] },
    Floor { module: "status", may_import: &["names", "api", "objects", "stack", "plan"], forbidden: PURE },
    Floor { module: "services", may_import: &["contract"], forbidden: &[KUBERNETES] },
    Floor { module: "telemetry", may_import: &[], forbidden: &[] },
    Floor { module: "probe", may_import: &["names", "contract", "services", "telemetry"], forbidden: &[KUBERNETES] },
    Floor { module: "agent", may_import: &["names", "contract", "services", "telemetry"], forbidden: &[KUBERNETES] },
    Floor {
        module: "controller",
        may_import: &[
            "names",
            "quantity",
            "api",
            "contract",
            "objects",
            "stack",
            "plan",
            "desired",
            "apply",
            "runtime",
            "status",
            "services",
            "telemetry",
            "probe",
        ],
        forbidden: &[],
    },
    Floor {
        module: "cli",
        may_import: &[
            "names",
            "quantity",
            "api",
            "contract",
            "objects",
            "stack",
            "plan",
            "desired",
            "apply",
            "runtime",
            "status",
            "services",
            "telemetry",
            "probe",
            "agent",
            "controller",
        ],
        forbidden: &[],
    },
];

/// The longest that a file may be, without its tests.
const LINES_MAX: usize = 400;
/// The longest that the reconcile of a stack may be.
const RECONCILE_LINES_MAX: usize = 150;

#[test]
fn every_import_leads_to_a_lower_floor() {
    report("imports against the floors", files().iter().flat_map(SourceFile::wrong_imports));
}

#[test]
fn pure_modules_reach_for_nothing() {
    report("words that the module may not contain", files().iter().flat_map(SourceFile::forbidden_words));
}

#[test]
fn types_are_named_in_the_words_of_the_field() {
    let named = |file: &SourceFile| {
        let declared = ["struct ", "enum ", "trait ", "type "].into_iter().flat_map(|keyword| {
            let places = file.code.match_indices(keyword);
            places.filter_map(|(offset, _)| name_at(&file.code, offset + keyword.len())).collect::<Vec<_>>()
        });
        let gone = declared.filter(|(_, name)| GONE.contains(name));
        file.located(gone.map(|(offset, name)| (offset, format!("{name} is no word of the field"))).collect())
    };
    let files: Vec<_> = files().into_iter().chain(files_below(&root().join("../../e2e/src"))).collect();
    report("words that a reader who knows Kubernetes does not", files.iter().flat_map(named));
}

#[test]
fn what_is_left_out_is_told_as_a_default() {
    let texts = ["api", "cli"].map(|folder| root().join(folder));
    let explained = texts.iter().flat_map(|folder| paths_below(folder)).flat_map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let wrong = text.lines().enumerate().filter(|(_, line)| line.contains("///") && line.contains("Left out"));
        wrong
            .map(|(number, _)| format!("{}:{}: write `Defaults to ...`", path.display(), number + 1))
            .collect::<Vec<_>>()
    });
    report("texts of fields and flags", explained);
}

#[test]
fn every_file_can_be_read_at_once() {
    let long = |file: &SourceFile| {
        let lines = file.code.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, at most {LINES_MAX}", file.path))
    };
    report("files that are too long", files().iter().filter_map(long));
}

/// Of the parts of a controller one leads to the next, so that each can be read after those that it names.
#[test]
fn the_parts_of_the_controllers_name_each_other_in_one_direction() {
    for folder in ["controller", "controller/stack", "runtime", "runtime/leader"] {
        let parts = parts(folder);
        assert!(parts.len() > 2, "{folder} has {parts:?}");
        report(&format!("circles in {folder}"), circles(&parts).into_iter());
    }
}

#[test]
fn the_reconcile_of_a_stack_reads_as_its_steps() {
    let lines = fs::read_to_string(root().join("controller/stack/reconcile.rs")).unwrap().lines().count();
    assert!(lines <= RECONCILE_LINES_MAX, "reconcile.rs has {lines} lines, at most {RECONCILE_LINES_MAX}");
}

#[test]
fn circles_are_found() {
    let parts = [("a", vec!["b"]), ("b", vec!["c", "d"]), ("c", vec!["a"]), ("d", vec![])];
    let parts = parts.map(|(name, to)| (name.to_owned(), to.into_iter().map(str::to_owned).collect()));
    let found = circles(&parts.into());
    assert_eq!(found, ["a leads to itself", "b leads to itself", "c leads to itself"]);
}

/// The files of a folder, and which of them each names.
fn parts(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let name = |path: &str| {
        let name = path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs")?;
        (!name.contains('/') && name != "mod").then(|| name.to_owned())
    };
    let files: Vec<_> = files().into_iter().filter_map(|file| Some((name(&file.path)?, file))).collect();
    let names: BTreeSet<_> = files.iter().map(|(name, _)| name.clone()).collect();
    let leads_to = |file: &SourceFile| {
        let of_folder = paths_from(&file.code, "super::").into_iter().map(|(_, name)| name.to_owned());
        of_folder.filter(|name| names.contains(name)).collect()
    };
    files.iter().map(|(name, file)| (name.clone(), leads_to(file))).collect()
}

/// The parts that lead to themselves.
fn circles(parts: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let leads_to_itself = |part: &&String| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![*part]);
        while let Some(at) = next.pop() {
            next.extend(parts[at].iter().filter(|to| reached.insert(*to)));
        }
        reached.contains(*part)
    };
    parts.keys().filter(leads_to_itself).map(|part| format!("{part} leads to itself")).collect()
}

#[test]
fn every_module_has_a_floor() {
    let library = fs::read_to_string(root().join("lib.rs")).unwrap();
    let modules: Vec<_> = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for module in &modules {
        assert!(FLOORS.iter().any(|floor| floor.module == *module), "{module} is in lib.rs and has no floor");
    }
    for floor in FLOORS {
        assert!(modules.contains(&floor.module), "{} has a floor and is not in lib.rs", floor.module);
    }
}

#[test]
fn violations_are_found_with_their_lines() {
    let text = "//! crate::cli in a comment\nuse crate::{\n    names::{Component, label},\n    desired::{self, pod},\n};\n\
                fn f() { let s = \"crate::cli Client\"; crate::status::x(s) }\nuse super::super::controller;\n\
                // Client\nasync fn g(c: Client, r: rand::Rng) {}\n#[cfg(test)]\nmod tests { use crate::cli; }\n";
    let file = SourceFile::new("stack/x.rs", text);
    let imports = file.wrong_imports();
    assert_eq!(
        imports,
        [
            "stack/x.rs:4: stack imports desired",
            "stack/x.rs:6: stack imports status",
            "stack/x.rs:7: super:: reaches the root of the crate, which hides the import: write crate::",
        ]
    );
    assert_eq!(
        file.forbidden_words(),
        ["stack/x.rs:9: Client in stack", "stack/x.rs:9: async fn in stack", "stack/x.rs:9: rand in stack"]
    );
}

/// A file of the crate, without comments, texts and tests; its lines are where they were.
struct SourceFile {
    /// Below `src`.
    path: String,
    code: String,
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        // By convention tests come last in a file.
        let code = blanked(text);
        let end = code.find("#[cfg(test)]\nmod ").unwrap_or(code.len());
        Self { path: path.to_owned(), code: code[..end].to_owned() }
    }

    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    fn floor(&self) -> Option<&'static Floor> {
        FLOORS.iter().find(|floor| floor.module == self.module())
    }

    /// How many `super::` lead from the file's module to the root of the crate.
    fn depth(&self) -> usize {
        let folders = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { folders } else { folders + 1 }
    }

    fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    fn wrong_imports(&self) -> Vec<String> {
        let Some(floor) = self.floor() else { return Vec::new() };
        let mut wrong = Vec::new();
        for (offset, module) in crate_paths(&self.code) {
            if module != floor.module && !floor.may_import.contains(&module) {
                wrong.push((offset, format!("{} imports {module}", floor.module)));
            }
        }
        let to_the_root = "super::".repeat(self.depth());
        for (offset, _) in self.code.match_indices(&to_the_root) {
            wrong.push((
                offset,
                "super:: reaches the root of the crate, which hides the import: write crate::".to_owned(),
            ));
        }
        self.located(wrong)
    }

    fn forbidden_words(&self) -> Vec<String> {
        let Some(floor) = self.floor() else { return Vec::new() };
        let mut found = Vec::new();
        for word in floor.forbidden.iter().copied().flatten() {
            let whole = |offset: &usize| {
                let (before, after) = (&self.code[..*offset], &self.code[*offset + word.len()..]);
                !before.ends_with(in_name) && !after.starts_with(in_name)
            };
            let places = self.code.match_indices(word).map(|(offset, _)| offset).filter(whole);
            found.extend(places.map(|offset| (offset, format!("{word} in {}", floor.module))));
        }
        self.located(found)
    }

    fn located(&self, mut found: Vec<(usize, String)>) -> Vec<String> {
        found.sort_by_key(|(offset, _)| self.line(*offset));
        found.into_iter().map(|(offset, what)| format!("{}:{}: {what}", self.path, self.line(offset))).collect()
    }
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The modules that follow `crate::`, also those of a list in braces, and where they are named.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    paths_from(code, "crate::")
}

/// Likewise of another beginning.
fn paths_from<'a>(code: &'a str, start: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (offset, start) in code.match_indices(start) {
        if code[..offset].ends_with(|c| in_name(c) || c == '$') {
            continue;
        }
        let after = offset + start.len();
        if code[after..].starts_with('{') {
            found.extend(first_names(code, after + 1));
        } else {
            found.extend(name_at(code, after));
        }
    }
    found
}

/// The first name of each member of a list, whose inside starts at `start`.
fn first_names(code: &str, start: usize) -> Vec<(usize, &str)> {
    let (mut depth, mut expected, mut found) = (0, true, Vec::new());
    for (index, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            c if expected && in_name(c) => {
                found.extend(name_at(code, start + index));
                expected = false;
            }
            _ => {}
        }
    }
    found
}

fn name_at(code: &str, start: usize) -> Option<(usize, &str)> {
    let end = code[start..].find(|c| !in_name(c)).map_or(code.len(), |length| start + length);
    (end > start).then(|| (start, &code[start..end]))
}

/// The text with spaces for what is inside comments and texts.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            raw_text(rest)
        } else if c == '"' {
            quoted_text(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

fn quoted_text(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest[1..].char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |(index, _)| index + 2)
}

/// `r"..."` and `r#"..."#`; a raw name such as `r#type` is one letter long.
fn raw_text(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 1;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let inside = 2 + hashes;
    rest[inside..].find(&closing).map_or(rest.len(), |end| inside + end + closing.len())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file below `src` that is not all tests.
fn files() -> Vec<SourceFile> {
    let files = files_below(&root());
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

/// Likewise of another folder.
fn files_below(root: &Path) -> Vec<SourceFile> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        SourceFile::new(&name, &fs::read_to_string(&path).unwrap())
    };
    let mut files: Vec<_> = paths_below(root).into_iter().map(read).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The paths of such files.
fn paths_below(root: &Path) -> Vec<PathBuf> {
    let (mut folders, mut paths) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                paths.push(path);
            }
        }
    }
    paths
}

fn report(what: &str, violations: impl Iterator<Item = String>) {
    let mut text = String::new();
    for violation in violations {
        let _ = writeln!(text, "  operator/src/{violation}");
    }
    assert!(text.is_empty(), "{what}:\n{text}");
}
