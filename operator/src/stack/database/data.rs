//! The files of the embedded PostgreSQL: which major version wrote them, which user owns them, and where on the volume they are.
//!
//! A major version cannot open the files of another one, and a server that finds no files makes an empty database. So all three
//! are decided once, when the volume is made, and its PersistentVolumeClaim keeps them in an annotation.

use std::fmt;
use std::str::FromStr;

use crate::{
    names::{Component, Waiting, annotation, reason},
    stack::{ObservedVolume, RunningServer, mode::Context},
};

/// The uid and gid of `postgres` in the Debian-based images
/// (source: <https://github.com/docker-library/postgres>, `Dockerfile-debian.template`, `useradd --uid=999`).
const DEBIAN: i64 = 999;
/// Likewise in those based on Alpine (`Dockerfile-alpine.template`, `adduser -u 70`).
const ALPINE: i64 = 70;
/// The version that a spec does not give.
const DEFAULT_MAJOR: u32 = 17;
/// The first version whose image has its files in a folder of the version.
const FIRST_VERSIONED: u32 = 18;

/// Where on the volume the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The volume is at `/var/lib/postgresql/data`, which is the volume of the images up to 17. Release 0.1.0 knew no other.
    Data,
    /// The volume is at `/var/lib/postgresql`, as the images from 18 on have it: `data` may be a link there, over which container
    /// runtimes refuse to mount.
    Versioned,
}

/// The files of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataFiles {
    /// The major version that wrote them.
    pub major: u32,
    /// The user who owns them: PostgreSQL starts as no other.
    pub user: i64,
    /// Where they are.
    pub layout: Layout,
}

impl DataFiles {
    /// Where the volume is mounted.
    pub fn mount(&self) -> &'static str {
        match self.layout {
            Layout::Data => "/var/lib/postgresql/data",
            Layout::Versioned => "/var/lib/postgresql",
        }
    }

    /// The folder of the files, for `PGDATA`. It is within the volume, whose root may hold `lost+found`: `initdb` wants an empty
    /// folder.
    pub fn directory(&self) -> String {
        match self.layout {
            Layout::Data => format!("{}/pgdata", self.mount()),
            Layout::Versioned => format!("{}/{}/docker", self.mount(), self.major),
        }
    }
}

/// As the annotation of the volume has it.
impl fmt::Display for DataFiles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = if self.layout == Layout::Data { "data" } else { "versioned" };
        write!(formatter, "version={},user={},layout={layout}", self.major, self.user)
    }
}

impl FromStr for DataFiles {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let fields: Vec<_> = text.split(',').map(|field| field.split_once('=')).collect();
        let [Some(("version", major)), Some(("user", user)), Some(("layout", layout))] = fields[..] else {
            return Err(());
        };
        let layout = match layout {
            "data" => Layout::Data,
            "versioned" => Layout::Versioned,
            _ => return Err(()),
        };
        let files = Self { major: major.parse().map_err(|_| ())?, user: user.parse().map_err(|_| ())?, layout };
        let known = is_known(files.user) && (layout == Layout::Data || files.major >= FIRST_VERSIONED);
        if known { Ok(files) } else { Err(()) }
    }
}

/// What to run, and what the volume is to say of it.
pub(super) struct Resolved {
    pub(super) files: DataFiles,
    /// `None`: what the files are is not certain enough to be written down.
    pub(super) annotation: Option<String>,
}

/// The files that a new volume gets, or those that are on the volume. The reason says why the spec cannot have them.
pub(super) fn resolve(version: Option<&str>, image: &str, context: &Context<'_>) -> Result<Resolved, Waiting> {
    let wanted = major(image, version);
    let layout = if wanted >= FIRST_VERSIONED { Layout::Versioned } else { Layout::Data };
    let new = DataFiles { major: wanted, user: user(image), layout };
    let Some(there) = context.observed.volumes.get(&Component::Database) else { return Ok(recorded(new)) };
    let volume = format!("persistentvolumeclaim/{}-{}", context.name, Component::Database);
    if let Some(text) = &there.data_files {
        let files = text.parse().map_err(|()| unreadable(&volume, text))?;
        return compare(&files, wanted, &volume).map(|()| recorded(files));
    }
    match &there.server {
        Some(server) => running(server, wanted, image, &volume),
        None if wanted >= FIRST_VERSIONED => Err(unknown(&volume, there, wanted)),
        // As release 0.1.0 left it. Another version of PostgreSQL refuses to start on its files by itself.
        None => Ok(Resolved { files: DataFiles { user: DEBIAN, ..new }, annotation: None }),
    }
}

fn recorded(files: DataFiles) -> Resolved {
    Resolved { files, annotation: Some(files.to_string()) }
}

/// A volume that says nothing, as those of release 0.1.0: the StatefulSet says how its files are used, and the image of a server
/// that serves which version wrote them. That is written down only while the spec asks for the same image. A server that does
/// not serve may be one that cannot open the files.
fn running(server: &RunningServer, wanted: u32, image: &str, volume: &str) -> Result<Resolved, Waiting> {
    let versioned = DataFiles {
        major: wanted,
        user: server.user.filter(|user| is_known(*user)).unwrap_or(DEBIAN),
        layout: Layout::Versioned,
    };
    let layout = if server.mount == versioned.mount() { Layout::Versioned } else { Layout::Data };
    let files = DataFiles { layout, ..versioned };
    if server.ready && server.image == image {
        return Ok(recorded(files));
    }
    if let Some(major) = tagged(&server.image).filter(|_| server.ready) {
        compare(&DataFiles { major, ..files }, wanted, volume)?;
    }
    Ok(Resolved { files, annotation: None })
}

fn compare(files: &DataFiles, wanted: u32, volume: &str) -> Result<(), Waiting> {
    let major = files.major;
    if major == wanted {
        return Ok(());
    }
    let message = format!(
        "spec.database.embedded asks for PostgreSQL {wanted}, and {volume} holds files of PostgreSQL {major}, which {wanted} cannot \
         open; the server stays as it is: set version and image to {major} again; to move to {wanted}, make a stack of another name \
         with version {wanted} and restore a dump of this one there"
    );
    Err(Waiting::new(reason::VERSION_MISMATCH, message))
}

fn unreadable(volume: &str, text: &str) -> Waiting {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(80).collect();
    let message = format!(
        "the annotation {} of {volume} is {text:?}, which says nothing of its files: write e.g. version=17,user=999,layout=data",
        annotation::DATA_FILES
    );
    Waiting::new(reason::VERSION_MISMATCH, message)
}

/// Without the files a server of this version would make an empty database beside them.
fn unknown(volume: &str, there: &ObservedVolume, wanted: u32) -> Waiting {
    let message = format!(
        "{volume} ({}) was made before, and does not say which version of PostgreSQL wrote its files: annotate it with \
         {}=version=<major version>,user=999,layout=data if release 0.1.0 made it; if it was PostgreSQL {wanted} of a later release, \
         with version={wanted},user=999,layout=versioned, where user is 70 for an image of Alpine",
        there.size,
        annotation::DATA_FILES
    );
    Waiting::new(reason::VERSION_MISMATCH, message)
}

/// The user of the server in an image.
pub(crate) fn user(image: &str) -> i64 {
    let alpine = tag(image).is_some_and(|tag| tag.split('-').any(|part| part.starts_with("alpine")));
    if alpine { ALPINE } else { DEBIAN }
}

/// No annotation and no StatefulSet that somebody has changed makes the server run as another user.
fn is_known(user: i64) -> bool {
    matches!(user, DEBIAN | ALPINE)
}

/// The major version: the tag of an official image knows best.
fn major(image: &str, version: Option<&str>) -> u32 {
    tagged(image).or_else(|| version?.parse().ok()).unwrap_or(DEFAULT_MAJOR)
}

/// The major version in the tag of an image of PostgreSQL, e.g. of `postgres:17.6-alpine`. Tags of other images may mean anything.
fn tagged(image: &str) -> Option<u32> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let name = name.rsplit('/').next()?.split_once(':')?.0;
    let digits: String = tag(image)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|_| name == "postgres")
}

fn tag(image: &str) -> Option<&str> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    Some(name.rsplit('/').next()?.split_once(':')?.1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        api::v1alpha1::{EmbeddedDatabase, RorunStack},
        stack::Observed,
    };

    fn resolved(block: &serde_json::Value, volume: Option<ObservedVolume>) -> Result<Resolved, Waiting> {
        let spec: EmbeddedDatabase = serde_json::from_value(block.clone()).unwrap();
        let cr = serde_json::json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack", "metadata": {"name": "shop"},
            "spec": {"environment": "Development", "api": {"image": "a"}}});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        let volumes = volume.into_iter().map(|volume| (Component::Database, volume)).collect();
        let observed = Observed { volumes, ..Observed::default() };
        let context = Context { spec: &cr.spec, name: "shop", namespace: "n", observed: &observed };
        let image =
            spec.image.clone().unwrap_or_else(|| format!("postgres:{}", spec.version.as_deref().unwrap_or("17")));
        resolve(spec.version.as_deref(), &image, &context)
    }

    #[allow(clippy::unnecessary_wraps, reason = "the cases without a volume say None")]
    fn there(data_files: Option<&str>, server: Option<(&str, Option<i64>, &str)>) -> Option<ObservedVolume> {
        let server = server.map(|(image, user, mount)| RunningServer {
            image: image.to_owned(),
            user,
            mount: mount.to_owned(),
            ready: true,
        });
        Some(ObservedVolume { data_files: data_files.map(str::to_owned), server, ..ObservedVolume::default() })
    }

    const OLD: &str = "/var/lib/postgresql/data";
    const NEW: &str = "/var/lib/postgresql";

    /// The block of the spec, the volume, and what its files are: version, user and folder, and what is written down.
    #[rstest]
    #[case::new("{}", None, (17, 999, "/var/lib/postgresql/data/pgdata"), true)]
    #[case::new_alpine(r#"{"image": "postgres:17-alpine3.22"}"#, None, (17, 70, "/var/lib/postgresql/data/pgdata"), true)]
    #[case::new_18(r#"{"version": "18"}"#, None, (18, 999, "/var/lib/postgresql/18/docker"), true)]
    #[case::new_18_by_image(r#"{"image": "r.example:5000/postgres:18.0-alpine"}"#, None, (18, 70, "/var/lib/postgresql/18/docker"), true)]
    #[case::new_of_another_image(r#"{"version": "18", "image": "acme/database:3"}"#, None, (18, 999, "/var/lib/postgresql/18/docker"), true)]
    #[case::known(r#"{"version": "18"}"#, there(Some("version=18,user=999,layout=versioned"), None), (18, 999, "/var/lib/postgresql/18/docker"), true)]
    #[case::of_debian_with_an_image_of_alpine(r#"{"image": "postgres:17-alpine"}"#, there(Some("version=17,user=999,layout=data"), None), (17, 999, "/var/lib/postgresql/data/pgdata"), true)]
    #[case::of_0_1_0("{}", there(None, Some(("postgres:17", Some(999), OLD))), (17, 999, "/var/lib/postgresql/data/pgdata"), true)]
    #[case::of_0_1_0_with_18(r#"{"version": "18"}"#, there(None, Some(("postgres:18", Some(999), OLD))), (18, 999, "/var/lib/postgresql/data/pgdata"), true)]
    #[case::of_0_1_0_with_alpine(r#"{"image": "postgres:17-alpine"}"#, there(None, Some(("postgres:17-alpine", Some(999), OLD))), (17, 999, "/var/lib/postgresql/data/pgdata"), true)]
    #[case::of_0_1_0_without_its_server(r#"{"image": "postgres:17-alpine"}"#, there(None, None), (17, 999, "/var/lib/postgresql/data/pgdata"), false)]
    #[case::of_0_1_0_and_a_new_image(r#"{"image": "postgres:17.6"}"#, there(None, Some(("postgres:17", Some(999), OLD))), (17, 999, "/var/lib/postgresql/data/pgdata"), false)]
    #[case::with_the_annotation_taken_away(r#"{"image": "postgres:18-alpine"}"#, there(None, Some(("postgres:18-alpine", Some(70), NEW))), (18, 70, "/var/lib/postgresql/18/docker"), true)]
    fn the_files_stay_as_they_were_made(
        #[case] block: &str,
        #[case] volume: Option<ObservedVolume>,
        #[case] (major, user, directory): (u32, i64, &str),
        #[case] written_down: bool,
    ) {
        let resolved = resolved(&serde_json::from_str(block).unwrap(), volume).unwrap_or_else(|why| panic!("{why:?}"));
        let files = resolved.files;
        assert_eq!((files.major, files.user, files.directory().as_str()), (major, user, directory));
        assert_eq!(resolved.annotation, written_down.then(|| files.to_string()));
        assert_eq!(files.to_string().parse(), Ok(files));
    }

    /// A user of 0.1.0 asked for 18 on files of 17, which it allowed, and sets the version back.
    #[test]
    fn what_never_served_says_nothing_of_the_files() {
        let volume = |ready| {
            let mut volume = there(None, Some(("postgres:18", Some(999), OLD)));
            volume.iter_mut().flat_map(|volume| &mut volume.server).for_each(|server| server.ready = ready);
            volume
        };
        let [asked, back] = [serde_json::json!({"version": "18"}), serde_json::json!({})];
        assert_eq!(resolved(&asked, volume(false)).ok().and_then(|resolved| resolved.annotation), None);
        let files = resolved(&back, volume(false)).ok().map(|resolved| resolved.files.directory());
        assert_eq!(files.as_deref(), Some("/var/lib/postgresql/data/pgdata"));
        assert!(resolved(&back, volume(true)).is_err());
    }

    /// What would start another version on the files, or an empty database beside them.
    #[rstest]
    #[case::another_version(
        r#"{"version": "18"}"#,
        there(Some("version=17,user=999,layout=data"), None),
        "set version and image to 17 again"
    )]
    #[case::an_older_one(
        r#"{"version": "17"}"#,
        there(Some("version=18,user=999,layout=versioned"), None),
        "holds files of PostgreSQL 18"
    )]
    #[case::by_image(
        r#"{"version": "17", "image": "postgres:18.1"}"#,
        there(Some("version=17,user=999,layout=data"), None),
        "asks for PostgreSQL 18"
    )]
    #[case::of_0_1_0(r#"{"version": "18"}"#, there(None, Some(("postgres:17", Some(999), OLD))), "holds files of PostgreSQL 17")]
    #[case::of_nobody_knows_which(r#"{"version": "18"}"#, there(None, None), "rorun.app/data-files=version=")]
    #[case::unreadable("{}", there(Some("seventeen"), None), "\"seventeen\", which says nothing")]
    #[case::of_another_user("{}", there(Some("version=17,user=0,layout=data"), None), "which says nothing")]
    #[case::an_old_one_in_the_new_folder(
        "{}",
        there(Some("version=17,user=999,layout=versioned"), None),
        "which says nothing"
    )]
    #[case::of_another_layout("{}", there(Some("version=17,user=999,layout=else"), None), "which says nothing")]
    fn another_version_is_refused(#[case] block: &str, #[case] volume: Option<ObservedVolume>, #[case] words: &str) {
        let Err(waiting) = resolved(&serde_json::from_str(block).unwrap(), volume) else { panic!("it is allowed") };
        assert_eq!(waiting.reason, "VersionMismatch");
        assert!(waiting.message.contains(words), "{}", waiting.message);
        assert!(waiting.message.contains("persistentvolumeclaim/shop-database"), "{}", waiting.message);
    }

    #[rstest]
    #[case("postgres:17", Some(17), 999)]
    #[case("postgres:17.6-bookworm", Some(17), 999)]
    #[case("docker.io/library/postgres:18-alpine", Some(18), 70)]
    #[case("r:5000/postgres:16.10-alpine3.21@sha256:00", Some(16), 70)]
    #[case("postgres@sha256:00", None, 999)]
    #[case("postgres:alpine", None, 70)]
    #[case("r:5000/postgres", None, 999)]
    #[case("acme/alpine-postgres:3", None, 999)]
    fn images_say_their_version_and_their_user(#[case] image: &str, #[case] version: Option<u32>, #[case] uid: i64) {
        assert_eq!((tagged(image), user(image)), (version, uid));
    }
}
