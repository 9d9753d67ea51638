//! Manifests as people write them, and stacks of which something is not proven.

use std::os::unix::fs::PermissionsExt as _;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::RorunStack;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn digest() -> String {
    format!("sha256:{HEX}")
}

/// The release of the tests: an API alone, or with an OCR service.
fn images(components: &[Component]) -> BTreeMap<Component, String> {
    components.iter().map(|of| (*of, format!("ghcr.io/rorun/rorun-{of}:1.9.0@{}", digest()))).collect()
}

const API: &[Component] = &[Component::Api];
const BOTH: &[Component] = &[Component::Api, Component::Ocr];

/// A manifest of `spec`, with `OLD` and `NEW` for the image before and after.
fn manifest(spec: &str) -> String {
    format!("apiVersion: rorun.app/v1alpha1\nkind: RorunStack\nmetadata:\n  name: rorun\nspec:\n{spec}")
}

#[rstest]
#[case::plain("  api:\n    image: OLD\n")]
#[case::with_comments(
    "  # above\n  api: # beside\n    # before\n    image: OLD # the API\n    replicas: 2 # two\n\n\n# end\n"
)]
#[case::in_double_quotes("  api: {replicas: 2, \"image\": \"OLD\"}\n")]
#[case::in_single_quotes("  api:\n    image:   'OLD'   # three blanks\n")]
#[case::flow("  api: {image: OLD, env: [{name: A, value: \"1\"}]}\n")]
#[case::flow_of_many_lines("  api: {\n    image: OLD,\n    replicas: 2}\n")]
#[case::with_a_tag("  api:\n    image: !!str OLD\n")]
#[case::with_its_own_anchor("  api:\n    image: &unused OLD\n")]
#[case::without_a_last_line_break("  api:\n    image: OLD")]
#[case::letters_of_many_bytes("  # Ünïcode, 日本 🦀\n  api:\n    podAnnotations: {a: 日本}\n    image: OLD # 🦀\n")]
#[case::other_images("  backup: {image: OLDER}\n  database: {embedded: {image: OLDER}}\n  api:\n    image: OLD\n")]
#[case::other_anchors("  redis: &r {embedded: {}}\n  bucket: *r\n  api:\n    <<: {replicas: 2}\n    image: OLD\n")]
#[case::other_documents(
    "  api:\n    image: OLD\n---\n# a comment alone\n---\nkind: ConfigMap\nmetadata: {name: rorun}\nspec: {api: {image: x}}\n...\n"
)]
fn only_the_image_line_changes(#[case] spec: &str) {
    for registry in ["", "  image: {registry: ghcr.io/rorun}\n"] {
        let template = manifest(&format!("{registry}{spec}"));
        let new = if registry.is_empty() { "ghcr.io/rorun/rorun-api" } else { "rorun-api" };
        for template in [template.clone(), template.replace('\n', "\r\n"), format!("\u{feff}{template}")] {
            let before = template.replace("OLDER", "ghcr.io/rorun/rorun-api:1.8.0").replace("OLD", "rorun-api:1.8.0");
            let wanted = template.replace("OLDER", "ghcr.io/rorun/rorun-api:1.8.0");
            let wanted = wanted.replace("OLD", &format!("{new}:1.9.0@{}", digest()));
            let promoted = promote(&images(API), ("f", &before), None).unwrap();
            assert_eq!(promoted.text, wanted);
            let again = promote(&images(API), ("f", &promoted.text), None).unwrap();
            assert_eq!((again.text, again.lines[0].before == again.lines[0].after), (wanted, true));
        }
    }
}

#[rstest]
#[case::no_yaml("kind: [", "failed to edit f: it is no YAML: ")]
#[case::nothing("", "failed to edit f: it has no RorunStack")]
#[case::another_kind("kind: ConfigMap", "failed to edit f: it has no RorunStack")]
#[case::no_image(&manifest("  api: {}"), "failed to edit f: spec.api.image is missing, or is no text")]
#[case::no_text(&manifest("  api: {image: [a]}"), "failed to edit f: spec.api.image is missing, or is no text")]
#[case::an_alias(&manifest("  x: &i a:1\n  api: {image: *i }"), "failed to edit f: spec.api.image is behind an alias (*) or a merge key")]
#[case::behind_an_alias(&manifest("  x: &i {image: a}\n  api: *i\n"), "failed to edit f: spec.api.image is behind an alias")]
#[case::behind_a_merge(&manifest("  x: &i {image: a}\n  api: {<<: *i}\n"), "failed to edit f: spec.api.image is behind an alias")]
#[case::an_anchor_in_use(&manifest("  api: {image: &i a}\n  x: *i\n"), "failed to edit f: spec.api.image has an anchor (&)")]
#[case::within_an_anchor_in_use(&manifest("  api: &a {image: b}\n  x: *a\n"), "failed to edit f: more than its image lines would change")]
#[case::a_block(&manifest("  api:\n    image: >-\n      a:1\n"), "failed to edit f: spec.api.image is not written as one word")]
#[case::of_two_lines(&manifest("  api:\n    image: \"a:\\\n      1\"\n"), "failed to edit f: spec.api.image is not written as one word")]
#[case::with_an_escape(&manifest("  api: {image: \"\\x61:1\"}"), "failed to edit f: spec.api.image is not written as one word")]
#[case::twice(&manifest("  api: {image: a, image: b}"), "failed to edit f: it is no YAML: ")]
#[case::of_a_template(&manifest("  api: {image: {{ .Values.image }}}"), "failed to edit f: ")]
#[case::one_more(&manifest("  api: {image: a}\n  ocr: {image: b}\n"), "failed to promote to f: ocr is in it, and not in the release; a promotion adds")]
#[case::several(&format!("{0}---\n{0}", manifest("  api: {image: a}\n")), "failed to edit f: it has several RorunStacks: say which by --name: rorun, rorun")]
fn what_cannot_be_edited_is_left_alone(#[case] text: &str, #[case] expected: &str) {
    let error = promote(&images(API), ("f", text), None).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_component_that_only_the_release_has_is_named() {
    for text in [manifest("  api: {image: a}\n"), manifest("  api: {image: a}\n  ocr:\n")] {
        let error = promote(&images(BOTH), ("f", &text), None).unwrap_err().to_string();
        assert!(error.starts_with("failed to promote to f: ocr is in the release, and not in it;"), "{error}");
    }
}

#[test]
fn one_of_several_stacks_is_named() {
    let one = manifest("  api: {image: a}\n");
    let text = format!("{one}---\n{}", one.replace("name: rorun", "name: other"));
    let promoted = promote(&images(API), ("f", &text), Some("other")).unwrap().text;
    assert!(promoted.starts_with(&one), "{promoted}");
    assert!(promoted.ends_with(&format!("{{image: ghcr.io/rorun/rorun-api:1.9.0@{}}}\n", digest())), "{promoted}");
    let error = promote(&images(API), ("f", &text), Some("third")).unwrap_err().to_string();
    assert_eq!(error, "failed to edit f: it has no RorunStack third, but rorun, other");
}

/// The registry of the file, its image, the image of the release, and how that is written.
#[rstest]
#[case::the_same_registry(Some("ghcr.io/rorun"), "a:1", "ghcr.io/rorun/a:2@D", "a:2@D")]
#[case::with_a_slash(Some("ghcr.io/rorun/"), "a:1", "ghcr.io/rorun/a:2@D", "a:2@D")]
#[case::another_registry(Some("r.example"), "a:1", "ghcr.io/rorun/a:2@D", "ghcr.io/rorun/a:2@D")]
#[case::a_registry_that_begins_alike(Some("ghcr.io/ror"), "a:1", "ghcr.io/rorun/a:2@D", "ghcr.io/rorun/a:2@D")]
#[case::no_registry(None, "a:1", "ghcr.io/rorun/a:2@D", "ghcr.io/rorun/a:2@D")]
#[case::a_bare_name_there(Some("ghcr.io/rorun"), "a:1", "a:2@D", "docker.io/library/a:2@D")]
#[case::bare_names(None, "a:1", "a:2@D", "a:2@D")]
#[case::a_rest_that_looks_like_a_registry(Some("r.example"), "a:1", "r.example/b.c/a:2@D", "r.example/b.c/a:2@D")]
#[case::written_in_full(Some("ghcr.io/rorun"), "ghcr.io/rorun/a:2@D", "ghcr.io/rorun/a:2@D", "ghcr.io/rorun/a:2@D")]
#[case::another_tag_of_the_digest(None, "ghcr.io/a:1@D", "ghcr.io/a:2@D", "ghcr.io/a:2@D")]
fn the_name_that_is_written_means_the_same_image(
    #[case] registry: Option<&str>,
    #[case] before: &str,
    #[case] image: &str,
    #[case] expected: &str,
) {
    let with = |text: &str| text.replace('D', &digest());
    assert_eq!(written(registry, &with(before), &with(image)), with(expected));
}

/// A stack that has proven its release.
fn proven() -> Value {
    let record = json!({"hash": "0c2a41b97e", "revision": "rorun-release-1", "api": "ghcr.io/rorun/rorun-api:1.9.0",
        "ocr": "r.example/rorun-ocr@D".replace('D', &digest()), "digests": {"api": digest()}});
    json!({
        "apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
        "metadata": {"name": "rorun", "namespace": "rorun-staging", "generation": 2},
        "spec": {"environment": "Staging", "api": {"image": "a"}},
        "status": {
            "observedGeneration": 2,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "release": {"state": "Serving", "current": record, "proven": {
                "revision": "rorun-release-1", "images": {}, "migrationSeconds": 12, "since": "2026-01-01T00:00:00Z"}},
        },
    })
}

fn judge(stack: &Value, proof: bool) -> Result<source::Release, String> {
    let asked = Asked { proof, age: Duration::from_mins(30), now: "2026-01-01T01:00:00Z".parse().unwrap() };
    source::judge(&serde_json::from_value::<RorunStack>(stack.clone()).unwrap(), asked)
}

#[test]
fn what_is_proven_is_promoted_with_its_digests() {
    let release = judge(&proven(), true).unwrap();
    insta::assert_snapshot!(release.said, @"rorunstack/rorun: release 0c2a41b97e, serves without a restart since 2026-01-01T00:00:00Z, its migration took 12 s");
    let api = format!("ghcr.io/rorun/rorun-api:1.9.0@{}", digest());
    let ocr = format!("r.example/rorun-ocr@{}", digest());
    assert_eq!(release.images, BTreeMap::from([(Component::Api, api), (Component::Ocr, ocr)]));
}

/// The path of a change, the change, and why the release is not promoted; whether `--unproven` helps.
#[rstest]
#[case::no_status("/status", json!(null), "it has no status: ", false)]
#[case::no_release("/status/release", json!(null), "its status tells of no release", false)]
#[case::none_served("/status/release/current", json!(null), "none of its releases has served yet", false)]
#[case::rolling_out("/status/release/state", json!("RollingOut"), "its release is RollingOut, not Serving; --unproven", true)]
#[case::not_observed("/metadata/generation", json!(3), "its operator has not observed the spec yet; --unproven", true)]
#[case::not_ready("/status/conditions/0/status", json!("False"), "it is not Ready: Ready: m; --unproven", true)]
#[case::no_condition("/status/conditions", json!([]), "its status has no condition Ready; --unproven", true)]
#[case::of_an_earlier_operator("/status/release/proven", json!(null), "its status says nothing in release.proven", true)]
#[case::of_another("/status/release/proven/revision", json!("x"), "its status says nothing in release.proven", true)]
#[case::too_young(
    "/status/release/proven/since", json!("2026-01-01T00:59:00Z"),
    "it serves without a restart since 2026-01-01T00:59:00Z, for 1m, and --min-age asks for 30m; --unproven", true)]
#[case::local(
    "/status/release/current/digests/api", json!("Local"),
    "the image of api, ghcr.io/rorun/rorun-api:1.9.0, has only a local image id: ", false)]
#[case::several(
    "/status/release/current/digests/api", json!("Several"),
    "the image of api, ghcr.io/rorun/rorun-api:1.9.0, has several digests: ", false)]
#[case::unknown(
    "/status/release/current/digests", json!({}),
    "the image of api, ghcr.io/rorun/rorun-api:1.9.0, has no digest in the status yet: ", false)]
#[case::odd(
    "/status/release/current/digests/api", json!("md5:0"),
    "the image of api, ghcr.io/rorun/rorun-api:1.9.0, has the digest md5:0, ", false)]
fn what_is_not_proven_is_not_promoted(
    #[case] path: &str,
    #[case] change: Value,
    #[case] expected: &str,
    #[case] unproven: bool,
) {
    let mut stack = proven();
    *stack.pointer_mut(path).unwrap() = change;
    let error = judge(&stack, true).unwrap_err();
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(judge(&stack, false).is_ok(), unproven);
}

fn args(from: &str, to: &Path) -> PromoteArgs {
    PromoteArgs {
        from: from.to_owned(),
        namespace: None,
        to: to.to_owned(),
        name: None,
        min_age: Duration::ZERO,
        unproven: false,
    }
}

async fn promoted(args: PromoteArgs) -> Result<String, String> {
    let mut out = Vec::new();
    run(args, &mut out).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn a_file_is_promoted_into_a_file_which_keeps_its_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to, link] = ["staging.json", "production.yaml", "link.yaml"].map(|name| folder.path().join(name));
    let list = json!({"kind": "List", "items": [proven(), {"kind": "ConfigMap"}]});
    fs::write(&from, list.to_string()).unwrap();
    let before = manifest("  image: {registry: ghcr.io/rorun}\n  api: {image: rorun-api:1.8.0}\n  ocr: {image: x}\n");
    fs::write(&to, &before).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&to, &link).unwrap();
    let shown = |out: String| {
        let folder = folder.path().display().to_string();
        out.replace(&format!("{folder}/"), "").replace(HEX, "0")
    };
    let from = from.display().to_string();
    insta::assert_snapshot!(shown(promoted(args(&from, &link)).await.unwrap()), @r"
    rorunstack/rorun: release 0c2a41b97e, serves without a restart since 2026-01-01T00:00:00Z, its migration took 12 s
    api: rorun-api:1.8.0 → rorun-api:1.9.0@sha256:0
    ocr: x → r.example/rorun-ocr@sha256:0
    link.yaml: changed 2 of 2 image lines
    ");
    let after = fs::read_to_string(&to).unwrap();
    let api = format!("rorun-api:1.9.0@{}", digest());
    assert_eq!(
        after,
        before
            .replace("rorun-api:1.8.0", &api)
            .replace("image: x", &format!("image: r.example/rorun-ocr@{}", digest()))
    );
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let written = fs::metadata(&to).unwrap().modified().unwrap();
    insta::assert_snapshot!(shown(promoted(args(&from, &to)).await.unwrap()), @r"
    rorunstack/rorun: release 0c2a41b97e, serves without a restart since 2026-01-01T00:00:00Z, its migration took 12 s
    api: rorun-api:1.9.0@sha256:0 (as before)
    ocr: r.example/rorun-ocr@sha256:0 (as before)
    production.yaml: nothing to change
    ");
    assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), written, "nothing is written");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside it");
}

#[rstest]
#[case::no_such_file("./none.yaml", None, "failed to read ./none.yaml: No such file")]
#[case::a_file_in_a_namespace(
    "./none.yaml",
    Some("n"),
    "--namespace does not go with --from ./none.yaml, which is a file"
)]
#[case::two_namespaces(
    "rorun.a",
    Some("b"),
    "--namespace does not go with --from rorun.a, which names another namespace"
)]
#[tokio::test]
async fn what_is_asked_wrongly_is_refused(#[case] from: &str, #[case] namespace: Option<&str>, #[case] expected: &str) {
    let args = PromoteArgs { namespace: namespace.map(str::to_owned), ..args(from, Path::new("none.yaml")) };
    let error = promoted(args).await.unwrap_err();
    assert!(error.starts_with(expected), "{error}");
}
