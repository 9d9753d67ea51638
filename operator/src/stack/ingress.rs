//! How requests from outside reach the stack: hosts, their paths, and their certificates.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Observed, Stack, mode::Unresolved};
use crate::{
    api::v1alpha1::{IngressPath, IngressSpec, IngressTls, PathType, RorunStackSpec, RoutedComponent},
    names::{Component, Waiting, reason},
};

/// How requests reach the stack.
#[derive(Clone, Debug)]
pub struct Ingress {
    /// The class. `None`: the cluster's default.
    pub class: Option<String>,
    /// The hosts: that of the API, of the admin panel, of the OCR service, and then the extra ones.
    pub hosts: Vec<Host>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Why the hosts and paths cannot be what the spec says.
    pub refused: Option<Waiting>,
    /// Where its controller answers, as its status says: an address that pods reach.
    pub address: Option<String>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its DNS name.
    pub name: String,
    /// What its paths lead to.
    pub routes: Vec<Route>,
    /// The Secret with its certificate.
    pub tls_secret: Option<String>,
    /// Whether it is one of `extraHosts` alone.
    extra: bool,
}

/// A path of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path.
    pub path: String,
    /// How it is compared.
    pub path_type: PathType,
    /// The component that serves it.
    pub component: Component,
}

impl Ingress {
    /// The URL of a component, if a path leads to it: of its own host rather than of an extra one, and of a whole host rather
    /// than of a part.
    pub fn url(&self, component: Component) -> Option<String> {
        let routes = self.hosts.iter().flat_map(|host| host.routes.iter().map(move |route| (host, route)));
        let prefixes = routes
            .filter(|(_, route)| route.component == component)
            .filter_map(|(host, route)| Some((host, route.prefix()?)));
        let (host, prefix) = prefixes.min_by_key(|(host, prefix)| (host.extra, !prefix.is_empty()))?;
        Some(format!("{}{prefix}", host.origin()))
    }

    /// The host of a component, and whether it has a certificate: its own host rather than an extra one.
    pub fn host(&self, component: Component) -> Option<(&str, bool)> {
        let leads = |host: &&Host| host.routes.iter().any(|route| route.component == component);
        let host = self.hosts.iter().filter(leads).min_by_key(|host| host.extra)?;
        Some((&host.name, host.tls_secret.is_some()))
    }

    /// The origins of the pages that a component serves (RFC 6454: a URL without its path), each once.
    pub fn origins(&self, component: Component) -> Vec<String> {
        let serve = |host: &&Host| host.routes.iter().any(|route| route.component == component);
        self.hosts.iter().filter(serve).map(Host::origin).collect()
    }

    /// The Secrets with certificates, and the hosts of each.
    pub fn certificates(&self) -> Vec<(&str, Vec<&str>)> {
        let mut certificates: Vec<(&str, Vec<&str>)> = Vec::new();
        for host in &self.hosts {
            let Some(secret) = host.tls_secret.as_deref() else { continue };
            match certificates.iter_mut().find(|(known, _)| *known == secret) {
                Some((_, hosts)) => hosts.push(&host.name),
                None => certificates.push((secret, vec![&host.name])),
            }
        }
        certificates
    }
}

impl Host {
    fn origin(&self) -> String {
        let scheme = if self.tls_secret.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.name)
    }
}

impl Route {
    /// The whole of a host.
    fn all(component: Component) -> Self {
        Self { path: "/".to_owned(), path_type: PathType::Prefix, component }
    }

    /// What stands between the host and the paths of the component. `None`: the path leads to one page alone, or is an expression
    /// that only the Ingress controller understands.
    fn prefix(&self) -> Option<&str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        let known = match self.path_type {
            PathType::Prefix => true,
            PathType::Exact => false,
            PathType::ImplementationSpecific => self.path.chars().all(plain),
        };
        known.then(|| self.path.trim_end_matches('/'))
    }

    /// Whether both match the same requests. A slash at the end of a prefix means nothing.
    fn collides(&self, other: &Self) -> bool {
        let compared = |route: &Self| match route.path_type {
            PathType::Prefix => route.path.trim_end_matches('/').to_owned(),
            PathType::Exact | PathType::ImplementationSpecific => route.path.clone(),
        };
        self.path_type == other.path_type && compared(self) == compared(other)
    }
}

impl Stack {
    /// Why a component stays as it is until the spec is corrected.
    pub fn refused(&self, component: Component) -> Option<&Waiting> {
        self.ingress.as_ref().filter(|_| component == Component::Ingress)?.refused.as_ref()
    }
}

/// The Secrets with certificates that the spec names.
pub(super) fn certificates(spec: &RorunStackSpec) -> impl Iterator<Item = &IngressTls> {
    let ingress = spec.ingress.iter();
    ingress.flat_map(|of| of.tls.iter().chain(of.extra_hosts.iter().filter_map(|host| host.tls.as_ref())))
}

/// Resolves hosts, paths and certificates.
pub(super) fn resolve(spec: &RorunStackSpec, observed: &Observed, unresolved: &mut Unresolved) -> Option<Ingress> {
    let ingress = spec.ingress.as_ref()?;
    let given = given(ingress);
    // The Ingress is made all the same: cert-manager writes the Secret only after it sees the Ingress.
    if let Some(message) = missing_certificates(ingress, &given, observed) {
        unresolved.insert(Component::Ingress, Waiting::new(reason::CERTIFICATE_MISSING, message));
    }
    let mut known = vec![Component::Api];
    known.extend(spec.admin.as_ref().map(|_| Component::Admin));
    known.extend(spec.ocr.as_ref().map(|_| Component::Ocr));
    let (hosts, contradiction) = merge(&given, ingress.tls.as_ref().map(|tls| tls.secret_name.as_str()));
    let refused = contradiction.or_else(|| absent(&given, &known));
    let refused = refused.map(|message| Waiting::new(reason::INVALID_SPEC, message));
    unresolved.extend(refused.clone().map(|waiting| (Component::Ingress, waiting)));
    let address = observed.ingress_address.clone().filter(|address| is_reachable(address));
    let (class, annotations) = (ingress.class_name.clone(), ingress.annotations.clone());
    Some(Ingress { class, hosts, annotations, refused, address })
}

/// Whether an address may be that of the controller in a pod as well: clusters on a laptop tell one of the host itself.
fn is_reachable(address: &str) -> bool {
    address
        .parse::<IpAddr>()
        .map_or(address != "localhost", |address| !address.is_loopback() && !address.is_unspecified())
}

/// A host as a field of the spec gives it.
struct Given<'a> {
    field: String,
    name: &'a str,
    /// Each with the field that gives it.
    routes: Vec<(String, Route)>,
    /// The Secret of its own certificate.
    tls_secret: Option<&'a str>,
    extra: bool,
}

fn given(ingress: &IngressSpec) -> Vec<Given<'_>> {
    let of_one = |field: &str, name, component| Given {
        field: field.to_owned(),
        name,
        routes: vec![(field.to_owned(), Route::all(component))],
        tls_secret: None,
        extra: false,
    };
    let mut api = of_one("ingress.host", ingress.host.as_str(), Component::Api);
    if !ingress.paths.is_empty() {
        api.routes = routes("ingress", &ingress.paths);
    }
    let usual: Vec<_> = api.routes.iter().map(|(_, route)| route.clone()).collect();
    let mut all = vec![api];
    all.extend(ingress.admin_host.iter().map(|name| of_one("ingress.adminHost", name.as_str(), Component::Admin)));
    all.extend(ingress.ocr_host.iter().map(|name| of_one("ingress.ocrHost", name.as_str(), Component::Ocr)));
    all.extend(ingress.extra_hosts.iter().enumerate().map(|(index, host)| {
        let field = format!("ingress.extraHosts[{index}]");
        let routes = if host.paths.is_empty() {
            usual.iter().map(|route| (field.clone(), route.clone())).collect()
        } else {
            routes(&field, &host.paths)
        };
        let tls_secret = host.tls.as_ref().map(|tls| tls.secret_name.as_str());
        Given { field, name: &host.host, routes, tls_secret, extra: true }
    }));
    all
}

impl From<RoutedComponent> for Component {
    fn from(routed: RoutedComponent) -> Self {
        match routed {
            RoutedComponent::Api => Self::Api,
            RoutedComponent::Ocr => Self::Ocr,
            RoutedComponent::Admin => Self::Admin,
        }
    }
}

fn routes(field: &str, paths: &[IngressPath]) -> Vec<(String, Route)> {
    let route = |path: &IngressPath| Route {
        path: path.path.clone(),
        path_type: path.path_type.unwrap_or_default(),
        component: path.component.into(),
    };
    paths.iter().enumerate().map(|(index, path)| (format!("{field}.paths[{index}]"), route(path))).collect()
}

/// One entry for each host, and the first contradiction. The Ingress of a stack with a contradiction is not applied: which of
/// two paths wins, Ingress controllers decide differently.
fn merge(given: &[Given<'_>], usual_secret: Option<&str>) -> (Vec<Host>, Option<String>) {
    let mut hosts: Vec<(Host, Vec<&String>)> = Vec::new();
    let mut contradictions = Vec::new();
    for one in given {
        let known = hosts.iter().position(|(host, _)| host.name == one.name);
        let index = known.unwrap_or_else(|| {
            let tls_secret = one.tls_secret.or(usual_secret).map(str::to_owned);
            let host = Host { name: one.name.to_owned(), routes: Vec::new(), tls_secret, extra: one.extra };
            hosts.push((host, Vec::new()));
            hosts.len() - 1
        });
        let (host, fields) = &mut hosts[index];
        contradictions.extend(other_certificate(one, host));
        for (field, route) in &one.routes {
            let Some(index) = host.routes.iter().position(|known| known.collides(route)) else {
                host.routes.push(route.clone());
                fields.push(field);
                continue;
            };
            contradictions.push(format!(
                "{} and {field} both serve {}{}: leave one of the two out, or change its host or path",
                fields[index], one.name, route.path
            ));
        }
    }
    (hosts.into_iter().map(|(host, _)| host).collect(), contradictions.into_iter().next())
}

/// That a field names another certificate for a host than one before.
fn other_certificate(one: &Given<'_>, host: &Host) -> Option<String> {
    let own = one.tls_secret.filter(|own| host.tls_secret.as_deref() != Some(own))?;
    let before = host.tls_secret.as_deref().map_or_else(|| "none".to_owned(), |name| format!("secret/{name}"));
    Some(format!(
        "{}.tls.secretName names secret/{own} for the host {}, whose certificate is {before} by ingress.tls: a host has one \
         certificate, so leave tls of the extra host out",
        one.field, one.name
    ))
}

/// That a path leads to a component that the stack does not have.
fn absent(given: &[Given<'_>], known: &[Component]) -> Option<String> {
    let mut routes = given.iter().flat_map(|one| &one.routes);
    let (field, route) = routes.find(|(_, route)| !known.contains(&route.component))?;
    Some(format!(
        "{field} leads to {of}, which the stack does not have: set spec.{of}, or let it lead to another component",
        of = route.component
    ))
}

/// Which certificates do not exist.
fn missing_certificates(ingress: &IngressSpec, given: &[Given<'_>], observed: &Observed) -> Option<String> {
    let of_all = ingress.tls.as_ref().map(|tls| (tls.secret_name.as_str(), "ingress".to_owned()));
    let of_one = given.iter().filter_map(|one| Some((one.tls_secret?, one.field.clone())));
    let mut missing: Vec<(&str, String)> = Vec::new();
    for (secret, field) in of_all.into_iter().chain(of_one) {
        let known = missing.iter().any(|(other, _)| *other == secret);
        if !known && !matches!(observed.secrets.get(secret), Some(Some(_))) {
            missing.push((secret, field));
        }
    }
    let verb = if missing.len() == 1 { "does" } else { "do" };
    let names: Vec<_> =
        missing.iter().map(|(secret, field)| format!("secret/{secret}, named by {field}.tls.secretName,")).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} {verb} not exist: create it (kubectl create secret tls), or let cert-manager write it; until then the \
             controller serves its own certificate",
            names.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn ingress(block: &Value) -> (Ingress, Unresolved) {
        let spec = json!({
            "environment": "Development", "api": {"image": "a"}, "admin": {"image": "b"}, "ingress": block,
        });
        let spec: RorunStackSpec = serde_json::from_value(spec).expect("a spec");
        let mut unresolved = Unresolved::new();
        let resolved = resolve(&spec, &Observed::default(), &mut unresolved).expect("an ingress");
        (resolved, unresolved)
    }

    /// As `host/path>component`, with a mark of what is not a prefix, and the certificate.
    fn rules(ingress: &Ingress) -> Vec<String> {
        let line = |host: &Host| {
            let routes = host.routes.iter().map(|route| {
                let mark = match route.path_type {
                    PathType::Prefix => "",
                    PathType::Exact => "=",
                    PathType::ImplementationSpecific => "~",
                };
                format!("{mark}{}>{}", route.path, route.component)
            });
            let secret = host.tls_secret.as_deref().unwrap_or("-");
            format!("{} {} {secret}", host.name, routes.collect::<Vec<_>>().join(","))
        };
        ingress.hosts.iter().map(line).collect()
    }

    #[rstest]
    #[case::one_host(json!({"host": "a.b"}), &["a.b />api -"])]
    #[case::as_released(
        json!({"host": "a.b", "adminHost": "c.b", "tls": {"secretName": "t"}}), &["a.b />api t", "c.b />admin t"])]
    #[case::paths_replace_the_path_of_the_api(
        json!({"host": "a.b", "paths": [{"path": "/api", "component": "api"}, {"path": "/", "component": "admin"}]}),
        &["a.b /api>api,/>admin -"])]
    #[case::an_extra_host_has_the_paths_and_the_certificate_of_the_first(
        json!({"host": "a.b", "extraHosts": [{"host": "x.y"}], "tls": {"secretName": "t"},
            "paths": [{"path": "/v1", "pathType": "Exact", "component": "api"}]}),
        &["a.b =/v1>api t", "x.y =/v1>api t"])]
    #[case::or_its_own(
        json!({"host": "a.b", "tls": {"secretName": "t"}, "extraHosts": [{"host": "x.y", "tls": {"secretName": "u"},
            "paths": [{"path": "/p(/|$)(.*)", "pathType": "ImplementationSpecific", "component": "admin"}]}]}),
        &["a.b />api t", "x.y ~/p(/|$)(.*)>admin u"])]
    #[case::an_extra_host_adds_paths_to_the_one_of_the_panel(
        json!({"host": "a.b", "adminHost": "c.b", "extraHosts": [{"host": "c.b",
            "paths": [{"path": "/api", "component": "api"}]}]}),
        &["a.b />api -", "c.b />admin,/api>api -"])]
    #[case::exact_and_prefix_differ(
        json!({"host": "a.b", "paths": [{"path": "/", "component": "api"},
            {"path": "/", "pathType": "Exact", "component": "admin"}]}),
        &["a.b />api,=/>admin -"])]
    fn hosts_and_paths_are_resolved(#[case] block: Value, #[case] wanted: &[&str]) {
        let (ingress, _) = ingress(&block);
        assert_eq!((rules(&ingress), ingress.refused), (wanted.iter().map(|line| (*line).to_owned()).collect(), None));
    }

    #[rstest]
    #[case::the_host_twice(
        json!({"host": "a.b", "extraHosts": [{"host": "a.b"}]}),
        "ingress.host and ingress.extraHosts[0] both serve a.b/: leave one of the two out, or change its host or path")]
    #[case::the_host_of_the_panel(
        json!({"host": "a.b", "adminHost": "c.b", "extraHosts": [{"host": "d.b"}, {"host": "c.b"}]}),
        "ingress.adminHost and ingress.extraHosts[1] both serve c.b/: leave one of the two out, or change its host or path")]
    #[case::a_path_with_and_without_a_slash(
        json!({"host": "a.b", "paths": [{"path": "/x", "component": "api"}, {"path": "/x/", "component": "admin"}]}),
        "ingress.paths[0] and ingress.paths[1] both serve a.b/x/: leave one of the two out, or change its host or path")]
    #[case::a_path_of_the_host_again(
        json!({"host": "a.b", "paths": [{"path": "/x", "component": "api"}],
            "extraHosts": [{"host": "a.b", "paths": [{"path": "/x", "component": "admin"}]}]}),
        "ingress.paths[0] and ingress.extraHosts[0].paths[0] both serve a.b/x: leave one of the two out, or change its \
         host or path")]
    #[case::two_certificates(
        json!({"host": "a.b", "tls": {"secretName": "t"}, "extraHosts": [{"host": "a.b", "tls": {"secretName": "u"},
            "paths": [{"path": "/x", "component": "admin"}]}]}),
        "ingress.extraHosts[0].tls.secretName names secret/u for the host a.b, whose certificate is secret/t by \
         ingress.tls: a host has one certificate, so leave tls of the extra host out")]
    #[case::no_such_component(
        json!({"host": "a.b", "paths": [{"path": "/", "component": "api"}, {"path": "/scan", "component": "ocr"}]}),
        "ingress.paths[1] leads to ocr, which the stack does not have: set spec.ocr, or let it lead to another component")]
    fn contradictions_name_both_fields(#[case] block: Value, #[case] message: &str) {
        let refused = ingress(&block).0.refused.expect("a refusal");
        assert_eq!((refused.reason, &*refused.message), (reason::INVALID_SPEC, message));
    }

    #[rstest]
    #[case::a_host_each(json!({"host": "a.b", "adminHost": "c.b"}), Some("http://a.b"), Some("http://c.b"), &["http://c.b"])]
    #[case::with_tls(
        json!({"host": "a.b", "adminHost": "c.b", "tls": {"secretName": "t"}}),
        Some("https://a.b"), Some("https://c.b"), &["https://c.b"])]
    #[case::one_host(
        json!({"host": "a.b", "paths": [{"path": "/api/", "component": "api"}, {"path": "/", "component": "admin"}]}),
        Some("http://a.b/api"), Some("http://a.b"), &["http://a.b"])]
    #[case::the_own_host_comes_first(
        json!({"host": "a.b", "adminHost": "c.b", "extraHosts": [{"host": "x.y"}], "paths": [
            {"path": "/api", "component": "api"}, {"path": "/admin", "component": "admin"}]}),
        Some("http://a.b/api"), Some("http://c.b"), &["http://a.b", "http://c.b", "http://x.y"])]
    #[case::each_host_has_its_own_certificate(
        json!({"host": "a.b", "extraHosts": [{"host": "x.y", "tls": {"secretName": "u"},
            "paths": [{"path": "/", "component": "admin"}]}]}),
        Some("http://a.b"), Some("https://x.y"), &["https://x.y"])]
    #[case::no_path_leads_to_it(
        json!({"host": "a.b", "paths": [{"path": "/", "component": "admin"}]}),
        None, Some("http://a.b"), &["http://a.b"])]
    #[case::one_page_is_no_url(
        json!({"host": "a.b", "paths": [{"path": "/health", "pathType": "Exact", "component": "api"},
            {"path": "/v1", "component": "api"}]}),
        Some("http://a.b/v1"), None, &[])]
    #[case::an_expression_is_no_url(
        json!({"host": "a.b", "paths": [
            {"path": "/api(/|$)(.*)", "pathType": "ImplementationSpecific", "component": "api"}]}),
        None, None, &[])]
    fn urls_and_origins_follow_the_paths(
        #[case] block: Value,
        #[case] api: Option<&str>,
        #[case] admin: Option<&str>,
        #[case] origins: &[&str],
    ) {
        let (ingress, _) = ingress(&block);
        assert_eq!(ingress.url(Component::Api).as_deref(), api);
        assert_eq!(ingress.url(Component::Admin).as_deref(), admin);
        assert_eq!(ingress.origins(Component::Admin), origins);
    }

    #[test]
    fn each_certificate_that_is_missing_is_named_once() {
        let tls = |secret: &str| json!({"secretName": secret});
        let (ingress, unresolved) =
            ingress(&json!({"host": "a.b", "adminHost": "c.b", "tls": tls("t"), "extraHosts": [
                {"host": "x.y", "tls": tls("u")}, {"host": "z.y", "tls": tls("u")}, {"host": "w.y"},
            ]}));
        let certificates = [("t", vec!["a.b", "c.b", "w.y"]), ("u", vec!["x.y", "z.y"])];
        assert_eq!(ingress.certificates(), certificates);
        let waiting = &unresolved[&Component::Ingress];
        assert_eq!(waiting.reason, reason::CERTIFICATE_MISSING);
        let named = "secret/t, named by ingress.tls.secretName, and secret/u, named by ingress.extraHosts[0].tls.secretName, \
                     do not exist: create it";
        assert!(waiting.message.starts_with(named), "{}", waiting.message);
    }
}
