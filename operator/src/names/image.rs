//! Names of images: `[registry/]path[:tag][@digest]`, by the rules of Docker's reference grammar.

/// Where an image without a registry comes from, and the folder of one that is a single word there.
const DOCKER: (&str, &str) = ("docker.io", "library");

/// The parts of an image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageName<'a> {
    /// All before tag and digest, as it is written.
    pub repository: &'a str,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The digest, e.g. `sha256:...`.
    pub digest: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    /// Takes a name apart.
    pub fn new(image: &'a str) -> Self {
        let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
        // A colon before the last slash is that of a port.
        let colon = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
        let (repository, tag) = colon.map_or((name, None), |colon| (&name[..colon], Some(&name[colon + 1..])));
        Self { repository, tag, digest }
    }

    /// The repository with the registry and the folder that a short name leaves out.
    pub fn full_repository(&self) -> String {
        let (registry, folder) = DOCKER;
        let Some((first, rest)) = self.repository.split_once('/').filter(|(first, _)| is_registry(first)) else {
            let folder = if self.repository.contains('/') { String::new() } else { format!("{folder}/") };
            return format!("{registry}/{folder}{}", self.repository);
        };
        if first != registry && first != "index.docker.io" {
            return self.repository.to_owned();
        }
        if rest.contains('/') { format!("{registry}/{rest}") } else { format!("{registry}/{folder}/{rest}") }
    }

    /// Whether both names mean the same image: two tags of one digest do.
    pub fn is_same(&self, other: &Self) -> bool {
        self.full_repository() == other.full_repository()
            && self.digest == other.digest
            && (self.digest.is_some() || self.tag == other.tag)
    }
}

/// Whether the first part of a name is a registry: it holds a dot or a colon, or is `localhost`.
pub fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// Whether a text is a digest of SHA-256.
pub fn is_digest(text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.chars().all(hex))
}

/// The digest of the image that a container runs, if it is one of a repository that the image's name means. `id` is `imageID` of
/// the container's status: `repository@sha256:...` where the node pulled it, with `docker-pullable://` before it from Docker.
/// `None`: the node has the image from no registry, as after `docker build` or `kind load`, and knows at most a digest of its own
/// copy, by itself or with a name that was made up for it.
pub fn pulled<'a>(image: &str, id: &'a str) -> Option<&'a str> {
    let id = ImageName::new(id.split_once("://").map_or(id, |(_, name)| name));
    let ours = id.full_repository() == ImageName::new(image).full_repository();
    id.digest.filter(|digest| ours && is_digest(digest))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("a", "a", None, None, "docker.io/library/a")]
    #[case("a/b:1", "a/b", Some("1"), None, "docker.io/a/b")]
    #[case("docker.io/a:1", "docker.io/a", Some("1"), None, "docker.io/library/a")]
    #[case("index.docker.io/a/b", "index.docker.io/a/b", None, None, "docker.io/a/b")]
    #[case("localhost/a:1", "localhost/a", Some("1"), None, "localhost/a")]
    #[case("r.example:5000/a", "r.example:5000/a", None, None, "r.example:5000/a")]
    #[case("ghcr.io/a/b:1@sha256:0", "ghcr.io/a/b", Some("1"), Some("sha256:0"), "ghcr.io/a/b")]
    #[case("r:5000/a@sha256:0", "r:5000/a", None, Some("sha256:0"), "r:5000/a")]
    fn a_name_has_these_parts(
        #[case] image: &str,
        #[case] repository: &str,
        #[case] tag: Option<&str>,
        #[case] digest: Option<&str>,
        #[case] full: &str,
    ) {
        let name = ImageName::new(image);
        assert_eq!(name, ImageName { repository, tag, digest });
        assert_eq!(name.full_repository(), full);
    }

    #[rstest]
    #[case("a:1", "docker.io/library/a:1", true)]
    #[case("a:1", "a:2", false)]
    #[case("a:1@sha256:0", "a:2@sha256:0", true)]
    #[case("a:1", "a:1@sha256:0", false)]
    fn two_names_may_mean_the_same_image(#[case] one: &str, #[case] other: &str, #[case] same: bool) {
        assert_eq!(ImageName::new(one).is_same(&ImageName::new(other)), same);
    }

    #[rstest]
    #[case::containerd("ghcr.io/rorun/rorun-api:1", &format!("ghcr.io/rorun/rorun-api@sha256:{HEX}"), true)]
    #[case::docker("ghcr.io/rorun/rorun-api:1", &format!("docker-pullable://ghcr.io/rorun/rorun-api@sha256:{HEX}"), true)]
    #[case::of_docker_hub("rorun-api:1", &format!("docker.io/library/rorun-api@sha256:{HEX}"), true)]
    #[case::by_its_digest(&format!("r.example/a@sha256:{HEX}"), &format!("r.example/a@sha256:{HEX}"), true)]
    #[case::its_own_copy("rorun-api:1", &format!("sha256:{HEX}"), false)]
    #[case::its_own_copy_in_docker("rorun-api:1", &format!("docker://sha256:{HEX}"), false)]
    #[case::loaded_by_kind("rorun-api:1", &format!("docker.io/library/import-2026-11-24@sha256:{HEX}"), false)]
    #[case::of_another_repository("ghcr.io/a/b:1", &format!("r.example/a/b@sha256:{HEX}"), false)]
    #[case::no_digest("ghcr.io/a/b:1", "ghcr.io/a/b@sha256:0", false)]
    #[case::not_started("ghcr.io/a/b:1", "", false)]
    fn only_a_digest_of_the_images_repository_counts(#[case] image: &str, #[case] id: &str, #[case] known: bool) {
        let digest = format!("sha256:{HEX}");
        assert_eq!(pulled(image, id), known.then_some(digest.as_str()));
    }
}
