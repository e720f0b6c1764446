//! TLS 1.3 between agents and the converter server.
//!
//! The agent trusts one certificate: the one whose SHA-256 is in its join string. Names and dates in it do not matter,
//! since the clock of a machine under conversion may be years off and its server may have any address. The server
//! trusts client certificates of its own authority; a connection without one reaches enrolment only.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, server};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::join::Fingerprint;

/// HTTP/2 only (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";
/// Flow-control window of a stream and of its connection: several chunks under way, so that a long line stays full.
pub const WINDOW_LEN: u32 = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A certificate and its key, DER.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &[u8]) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate).into())
}

/// Configuration of the server: its own certificate, and the authority that client certificates must come from. A
/// client without a certificate is let in; who serves it decides by [`Peer::certificate`].
pub fn server_config(
    identity: Identity,
    authority: CertificateDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![identity.certificate], identity.key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Configuration of an agent: the one certificate that the server may show, and its own once it has one.
pub fn client_config(
    expected: Fingerprint,
    identity: Option<Identity>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { expected, provider }));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(vec![identity.certificate], identity.key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Accepts exactly one certificate; the handshake proves that the server has its key.
#[derive(Debug)]
struct Pinned {
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = fingerprint(end_entity);
        if found == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General(format!(
                "expected the certificate with fingerprint {}, found {found}: another server answers at this address",
                self.expected
            )))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The certificate that the server at `address` shows, checked against nothing: for a person to compare.
pub async fn certificate_shown(address: &str) -> io::Result<Fingerprint> {
    let any = Arc::new(std::sync::Mutex::new(None));
    let provider = Arc::new(ring::default_provider());
    let seen = Arc::new(Seen {
        any: Arc::clone(&any),
        provider: Arc::clone(&provider),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(seen)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let connected = dial(address, Arc::new(config)).await.map(drop);
    let found = any
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    match (found, connected) {
        (Some(found), _) => Ok(found),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(io::Error::other("the server showed no certificate")),
    }
}

/// Refuses every certificate and remembers it.
#[derive(Debug)]
struct Seen {
    any: Arc<std::sync::Mutex<Option<Fingerprint>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self
            .any
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(fingerprint(end_entity));
        Err(rustls::Error::General("looked at only".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("looked at only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("looked at only".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

async fn dial(
    address: &str,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let work = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // No name is checked; the certificate is pinned.
        let name = ServerName::try_from("v2v").map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "{address} did not answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// One HTTP/2 connection to `address` (`ADDR:PORT`). It does not reconnect by itself: every request after it broke
/// fails, and the caller dials again.
pub async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, config) = (address.clone(), Arc::clone(&config));
        async move { dial(&address, config).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://v2v")
        .initial_stream_window_size(WINDOW_LEN)
        .initial_connection_window_size(WINDOW_LEN)
        .http2_keep_alive_interval(Duration::from_secs(crate::KEEPALIVE_SECONDS))
        .keep_alive_timeout(Duration::from_secs(2 * crate::KEEPALIVE_SECONDS))
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// Who is at the other end of a connection of the server; an extension of every request
/// (`request.extensions().get::<Peer>()`).
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// Its certificate (DER), which the server's authority issued; `None` if it showed none.
    pub certificate: Option<CertificateDer<'static>>,
}

/// A connection that the server accepted.
#[derive(Debug)]
pub struct Accepted(server::TlsStream<TcpStream>);

impl Accepted {
    /// After the handshake.
    pub fn new(stream: server::TlsStream<TcpStream>) -> Self {
        Self(stream)
    }
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let (stream, session) = self.0.get_ref();
        Peer {
            address: stream.peer_addr().ok(),
            certificate: session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|certificate| certificate.clone().into_owned()),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
