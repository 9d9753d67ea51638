//! The keys and certificates of a test server: one authority, a certificate for the server and one for each client.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A certificate authority that keeps all it makes in one folder.
pub(super) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes `ca.crt` in the folder, and the keys `sa.key` and `sa.pub` for the tokens of service accounts.
    pub(super) fn create(folder: &Path) -> Result<Authority> {
        fs::create_dir_all(folder)?;
        let mut params = named(&[], "rorun-test-server", None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        fs::write(folder.join("ca.crt"), params.self_signed(&key)?.pem())?;
        let service_accounts = KeyPair::generate()?;
        fs::write(folder.join("sa.key"), service_accounts.serialize_pem())?;
        fs::write(folder.join("sa.pub"), service_accounts.public_key_pem())?;
        Ok(Authority { folder: folder.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// A certificate for a server that is reached by these names and addresses, as `NAME.crt` and `NAME.key`.
    pub(super) fn server(&self, name: &str, reached_by: &[&str]) -> Result<()> {
        self.issue(name, named(reached_by, name, None)?)
    }

    /// A certificate for a client, and `NAME.kubeconfig` with it; the user and the group are what RBAC sees.
    pub(super) fn client(&self, name: &str, user: &str, group: Option<&str>, url: &str) -> Result<PathBuf> {
        self.issue(name, named(&[], user, group)?)?;
        let path = self.file(&format!("{name}.kubeconfig"));
        fs::write(&path, self.kubeconfig(name, url)?).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// A file of the authority's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn issue(&self, name: &str, mut params: CertificateParams) -> Result<()> {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.file(&format!("{name}.crt")), certificate.pem())?;
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    fn kubeconfig(&self, name: &str, url: &str) -> Result<String> {
        let file = |name: String| self.file(&name).display().to_string();
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test-server", "cluster": {"server": url, "certificate-authority": file("ca.crt".to_owned())}}],
            "users": [{"name": name, "user": {
                "client-certificate": file(format!("{name}.crt")), "client-key": file(format!("{name}.key")),
            }}],
            "contexts": [{"name": "test-server", "context": {"cluster": "test-server", "user": name}}],
            "current-context": "test-server",
        });
        Ok(serde_json::to_string_pretty(&kubeconfig)?)
    }
}

fn named(reached_by: &[&str], common_name: &str, organization: Option<&str>) -> Result<CertificateParams> {
    let names: Vec<String> = reached_by.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    Ok(params)
}
