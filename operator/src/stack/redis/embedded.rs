//! Redis in the cluster.

use rustls::{
    CertificateError,
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    server::ParsedCertificate,
};
use sha2::{Digest, Sha256};

use super::{Redis, RedisAccess};
use crate::{
    api::v1alpha1::{EmbeddedRedis, Storage},
    names::{Component, Waiting},
    stack::{
        Observed, REDIS_PORT, References,
        mode::{
            Context, Mode, ModeAccess, ModeSpec, PodFields, Resolve, Server, Unresolved, ok_or_unresolved, single_pod,
        },
        placeholders::Values,
        secret::{NamedSecret, authority_of},
        server::ServerSpec,
        workload::hex,
    },
};

const TLS_FIELD: &str = "redis.embedded.tlsSecretRef";
const CERTIFICATE: &str = "tls.crt";
const AUTHORITY: &str = "ca.crt";

/// Redis in the cluster.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// The pod and its volume. The credentials are the password and, since the application is a user of its own, that user.
    pub server: Server,
    /// How the server speaks TLS. `None`: it does not.
    pub tls: Option<ServerTls>,
    access: Option<RedisAccess>,
    notes: Vec<String>,
}

/// The TLS of the server.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The Secret with the certificate, its key and its authority.
    pub secret: String,
    /// A hash of the certificate and its authority, which the server reads when it starts.
    pub hash: String,
    certificate: String,
    authority: String,
}

impl Mode for Embedded {
    fn server(&self) -> Option<&Server> {
        Some(&self.server)
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl ModeAccess for Embedded {
    type Access = RedisAccess;

    fn access(&self) -> Option<&RedisAccess> {
        self.access.as_ref()
    }
}

impl ModeSpec for EmbeddedRedis {
    fn references(&self, _: &str, found: &mut References) {
        if let Some(tls) = &self.tls_secret_ref {
            // Only the pod reads the key.
            found.secret(&tls.name, [CERTIFICATE, AUTHORITY]);
        }
    }

    fn placeholders(&self, _: &str, values: &mut Values<'_>) {
        if let Some(tls) = &self.tls_secret_ref {
            for key in [CERTIFICATE, AUTHORITY] {
                values.certificate(&tls.name, key);
            }
        }
    }

    fn is_embedded(&self) -> bool {
        true
    }

    fn storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    fn pods(&self) -> Option<PodFields<'_>> {
        let port = REDIS_PORT;
        Some(PodFields { port, template: self.pod_template.as_ref(), scheduling: self.scheduling.as_ref() })
    }

    fn warning(&self, component: Component) -> Option<String> {
        Some(single_pod(component))
    }
}

impl Resolve for EmbeddedRedis {
    type Service = Redis;

    fn resolve(&self, context: &Context<'_>, unresolved: &mut Unresolved) -> Redis {
        let server = ServerSpec {
            component: Component::Redis,
            image: self.image.as_deref().unwrap_or("valkey/valkey:8.1"),
            storage: self.storage.as_ref(),
            resources: self.resources.as_ref(),
            requests: ("50m", "64Mi"),
        };
        let server = server.resolve(context, unresolved);
        let tls = self.tls_secret_ref.as_ref().map(|tls| server_tls(&tls.name, context.observed));
        let tls = tls.map(|tls| ok_or_unresolved(tls, Component::Redis, unresolved));
        let host = context.service_host(Component::Redis);
        let access = access(&server, tls.as_ref(), host.clone());
        let tls = tls.flatten();
        let misnamed = tls.as_ref().and_then(|tls| misnamed(tls, &host));
        let notes = server.volume.notes.iter().cloned().chain(misnamed).collect();
        Redis::Embedded(Box::new(Embedded { server, tls, access, notes }))
    }
}

fn server_tls(name: &str, observed: &Observed) -> Result<ServerTls, Waiting> {
    let secret = NamedSecret::find(observed, name, TLS_FIELD)?;
    let (certificate, authority) = (authority_of(&secret, CERTIFICATE)?, authority_of(&secret, AUTHORITY)?);
    let digest = Sha256::new_with_prefix(&certificate).chain_update([0]).chain_update(&authority).finalize();
    Ok(ServerTls { secret: name.to_owned(), hash: hex(&digest[..16]), certificate, authority })
}

/// What clients refuse while the server itself serves: its own probe asks it by another name. A certificate that cannot be read says
/// nothing of names.
fn misnamed(tls: &ServerTls, host: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(tls.certificate.as_bytes()).ok()?;
    let certificate = ParsedCertificate::try_from(&certificate).ok()?;
    let name = ServerName::try_from(host).ok()?;
    match verify_server_name(&certificate, &name) {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Some(format!(
            "the certificate in secret/{}, named by {TLS_FIELD}, does not name {host}, where the application connects, so that its \
             clients refuse it: issue one with this name",
            tls.secret
        )),
        _ => None,
    }
}

/// `tls`: what the spec asks for, which may be unresolved.
fn access(server: &Server, tls: Option<&Option<ServerTls>>, host: String) -> Option<RedisAccess> {
    let credentials = server.credentials.as_ref()?;
    let password = credentials.text("password");
    let username = credentials.generates("username").then(|| credentials.text("username").to_owned());
    let (scheme, ca) = match tls {
        None => ("redis", None),
        Some(tls) => ("rediss", Some(tls.as_ref()?.authority.clone())),
    };
    let user = username.as_deref().unwrap_or("default");
    Some(RedisAccess {
        url: format!("{scheme}://{user}:{password}@{host}:{REDIS_PORT}/0"),
        host,
        port: 6379,
        username,
        password: password.to_owned(),
        ca,
        cluster_mode: None,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{
        api::v1alpha1::RorunStack,
        names::reason,
        stack::{CredentialState, SecretData, Stack, validate},
    };

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----";

    fn members(values: &[(&str, &str)]) -> SecretData {
        values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn redis(credentials: &[(&str, &str)], tls: Option<SecretData>, asked: bool) -> (Stack, Embedded) {
        let block = if asked { json!({"tlsSecretRef": {"name": "redis-tls"}}) } else { json!({}) };
        let spec = json!({"environment": "Development", "api": {"image": "a"}, "redis": {"embedded": block}});
        let cr = json!({"apiVersion": "rorun.app/v1alpha1", "kind": "RorunStack",
            "metadata": {"name": "shop", "namespace": "n"}, "spec": spec});
        let cr: RorunStack = serde_json::from_value(cr).unwrap();
        let observed = Observed {
            credentials: [(Component::Redis, CredentialState::Present(members(credentials)))].into(),
            secrets: [("redis-tls".to_owned(), tls)].into(),
            ..Observed::default()
        };
        let stack = validate(&cr, &observed);
        let Redis::Embedded(redis) = &stack.redis else { panic!("{:?}", stack.redis) };
        let redis = (**redis).clone();
        (stack, redis)
    }

    #[rstest]
    #[case::of_before(&[("password", "p")], "redis://default:p@shop-redis.n.svc:6379/0", None)]
    #[case::with_a_key_of_a_user(&[("username", "a b"), ("password", "p")], "redis://default:p@shop-redis.n.svc:6379/0", None)]
    #[case::of_its_own(&[("username", "rorun"), ("password", "p")], "redis://rorun:p@shop-redis.n.svc:6379/0", Some("rorun"))]
    fn the_application_is_the_user_of_the_secret(
        #[case] credentials: &[(&str, &str)],
        #[case] url: &str,
        #[case] user: Option<&str>,
    ) {
        let (_, redis) = redis(credentials, None, false);
        let access = redis.access.expect("an address");
        assert_eq!((access.url.as_str(), access.username.as_deref(), access.ca), (url, user, None));
        assert!(redis.tls.is_none());
    }

    #[test]
    fn with_a_certificate_the_url_asks_for_tls_and_the_authority_is_told() {
        let secret = |certificate: &str| members(&[("tls.crt", certificate), ("tls.key", "k"), ("ca.crt", PEM)]);
        let credentials = [("username", "rorun"), ("password", "p")];
        let (stack, first) = redis(&credentials, Some(secret(PEM)), true);
        let access = first.access.clone().expect("an address");
        assert_eq!(access.url, "rediss://rorun:p@shop-redis.n.svc:6379/0");
        assert_eq!(access.ca.as_deref(), Some(PEM));
        assert!(!stack.unresolved.contains_key(&Component::Redis), "{:?}", stack.unresolved);
        let renewed = redis(&credentials, Some(secret(&PEM.replace('x', "y"))), true).1;
        assert_ne!(first.tls.map(|tls| tls.hash), renewed.tls.map(|tls| tls.hash));
    }

    #[test]
    fn a_certificate_that_clients_refuse_for_its_name_is_told() {
        let told = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
            let secret = members(&[("tls.crt", &pem), ("tls.key", "k"), ("ca.crt", &pem)]);
            let (stack, redis) = redis(&[("username", "rorun"), ("password", "p")], Some(secret), true);
            assert!(redis.access.is_some(), "it stops nothing");
            stack.notes(Component::Redis).to_vec()
        };
        for right in [&["shop-redis.n.svc"][..], &["localhost", "*.n.svc"]] {
            assert_eq!(told(right), [""; 0]);
        }
        let note = "the certificate in secret/redis-tls, named by redis.embedded.tlsSecretRef, does not name shop-redis.n.svc, where \
                    the application connects, so that its clients refuse it: issue one with this name";
        assert_eq!(told(&["shop-redis", "shop-redis.n.svc.cluster.local"]), [note]);
    }

    #[rstest]
    #[case::no_secret(
        None,
        reason::REFERENCE_MISSING,
        "secret/redis-tls, named by redis.embedded.tlsSecretRef, does not exist"
    )]
    #[case::no_authority(Some(members(&[("tls.crt", PEM), ("tls.key", "k")])), reason::KEY_MISSING, "lacks the key ca.crt")]
    #[case::no_pem(Some(members(&[("tls.crt", "x"), ("tls.key", "k"), ("ca.crt", PEM)])), reason::INVALID_VALUE, "tls.crt")]
    fn what_is_wrong_with_a_certificate_is_told(
        #[case] secret: Option<SecretData>,
        #[case] reason: reason::Reason,
        #[case] words: &str,
    ) {
        let (stack, redis) = redis(&[("username", "rorun"), ("password", "p")], secret, true);
        let waiting = &stack.unresolved[&Component::Redis];
        assert_eq!(waiting.reason, reason);
        assert!(waiting.message.contains(words), "{}", waiting.message);
        assert!(redis.access.is_none(), "the application is told no address without TLS");
    }
}
