//! The server's own authority: made at the first start, it issues the server's certificate and those of agents.
//!
//! ```text
//! STATE/pki/ authority.{der,key}   signs
//!            server.{der,key}      what agents pin by its SHA-256
//! ```
//!
//! Dates in the certificates are as wide as they can be, since the clock of a machine under conversion may be years off;
//! an agent is shut out by withdrawing its certificate, not by waiting for its end.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::crypto::ring::kx_group::SECP256R1;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use wire::join::Fingerprint;
use wire::tls::{Identity, fingerprint};

use crate::state::{failed, make_folder, sync_folder, write_private};
use crate::{Error, Result};

const AUTHORITY_CERTIFICATE: &str = "authority.der";
const AUTHORITY_KEY: &str = "authority.key";
const SERVER_CERTIFICATE: &str = "server.der";
const SERVER_KEY: &str = "server.key";
/// Common names.
const AUTHORITY_NAME: &str = "v2v converter server authority";
const SERVER_NAME: &str = "v2v converter server";
/// Name that the client side of TLS asks for; nobody checks it.
const DNS_NAME: &str = "v2v";
const FIRST_YEAR: i32 = 1975;
const LAST_YEAR: i32 = 4096;
/// RFC 5280, section 4.1.2.2: at most 20 octets, positive.
const SERIAL_LEN: usize = 16;
/// SEC 1, section 2.3.3: an uncompressed point of P-256 is 0x04 and two coordinates of 32 bytes.
const POINT_LEN: usize = 65;
const POINT_UNCOMPRESSED: u8 = 0x04;

/// Signs certificates of agents.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    server: Identity,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority from its folder, or makes it there.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        if !folder.exists() {
            make(folder)?;
        }
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(failed("reading", &path))
        };
        let key: PrivatePkcs8KeyDer<'static> = read(AUTHORITY_KEY)?.into();
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(pki)?;
        let server_key: PrivatePkcs8KeyDer<'static> = read(SERVER_KEY)?.into();
        Ok(Self {
            certificate: read(AUTHORITY_CERTIFICATE)?.into(),
            issuer: Issuer::new(authority_params()?, key),
            server: Identity {
                certificate: read(SERVER_CERTIFICATE)?.into(),
                key: PrivateKeyDer::Pkcs8(server_key),
            },
        })
    }

    /// What client certificates are checked against.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// What the server shows.
    pub(crate) fn server(&self) -> Identity {
        self.server.clone()
    }

    /// What agents pin.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.server.certificate)
    }

    /// Makes the certificate of an agent, DER.
    pub(crate) fn sign_agent(&self, agent_id: &str, key: &AgentKey) -> Result<Vec<u8>> {
        let mut params = params(agent_id)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(key, &self.issuer).map_err(pki)?;
        Ok(certificate.der().to_vec())
    }
}

/// Public key of an agent: a point that is on the curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentKey(Vec<u8>);

impl AgentKey {
    /// Checks what an agent sent. The error says what is wrong with it.
    pub(crate) fn new(point: &[u8]) -> Result<Self, String> {
        if point.len() != POINT_LEN || point.first() != Some(&POINT_UNCOMPRESSED) {
            return Err(format!(
                "expected a public key of {POINT_LEN} bytes that begins with {POINT_UNCOMPRESSED:#04x}, found {} bytes",
                point.len()
            ));
        }
        // A key exchange with it succeeds exactly when the point is on the curve (SEC 1, section 3.2.2.1).
        SECP256R1
            .start()
            .and_then(|exchange| exchange.complete(point))
            .map_err(|_| "the public key is no point of P-256".to_owned())?;
        Ok(Self(point.to_vec()))
    }
}

impl PublicKeyData for AgentKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Makes the folder beside its place and moves it there whole.
fn make(folder: &Path) -> Result<()> {
    let unfinished = folder.with_extension("new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(failed("removing", &unfinished))?;
    }
    make_folder(&unfinished)?;
    let new_key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(pki);
    let authority_key = new_key()?;
    let authority = authority_params()?
        .self_signed(&authority_key)
        .map_err(pki)?;
    let server_key = new_key()?;
    let write = |name: &str, content: &[u8]| write_private(&unfinished.join(name), content);
    write(AUTHORITY_CERTIFICATE, authority.der())?;
    write(AUTHORITY_KEY, authority_key.serialized_der())?;
    let issuer = Issuer::new(authority_params()?, authority_key);
    let mut params = params(SERVER_NAME)?;
    params.subject_alt_names = vec![rcgen::SanType::DnsName(DNS_NAME.try_into().map_err(pki)?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = params.signed_by(&server_key, &issuer).map_err(pki)?;
    write(SERVER_CERTIFICATE, server.der())?;
    write(SERVER_KEY, server_key.serialized_der())?;
    sync_folder(&unfinished)?;
    std::fs::rename(&unfinished, folder).map_err(failed("making", folder))?;
    if let Some(parent) = folder.parent() {
        sync_folder(parent)?;
    }
    Ok(())
}

fn authority_params() -> Result<CertificateParams> {
    let mut params = params(AUTHORITY_NAME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn params(common_name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let mut serial: [u8; SERIAL_LEN] = random()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Random bytes of the kernel.
pub(crate) fn random<const LEN: usize>() -> Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let mut filled = 0;
    while filled < LEN {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|error| Error::Pki(format!("reading random bytes: {error}")))?;
    }
    Ok(bytes)
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn pki(error: rcgen::Error) -> Error {
    Error::Pki(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");
        // What a start that was cut off left behind is no obstacle.
        make_folder(&dir.path().join("pki.new")).unwrap();
        write_private(&dir.path().join("pki.new/authority.key"), b"half").unwrap();
        let first = Authority::open(&folder).unwrap();
        let second = Authority::open(&folder).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert!(!dir.path().join("pki.new").exists());
        let mut files = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            files += 1;
        }
        assert_eq!(files, 4);
    }

    #[test]
    fn only_points_of_the_curve_are_signed() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let good = key.der_bytes().to_vec();
        assert!(AgentKey::new(&good).is_ok());
        let mut off = good.clone();
        off[64] ^= 1;
        assert!(AgentKey::new(&off).unwrap_err().contains("P-256"));
        let mut compressed = good.clone();
        compressed[0] = 2;
        for wrong in [&good[..64], &[], &compressed, &[4; 65], &[0; 65]] {
            assert!(AgentKey::new(wrong).is_err());
        }
    }
}
