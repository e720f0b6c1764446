//! Connections of browsers: TLS or not, and how many, how long.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::crypto::ring;
use rustls::{ServerConfig, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Layer;
use types::CancelToken;
use wire::tls::Identity;

use super::access::needs_tls;
use super::{Access, App, router};
use crate::Control;

/// Connections at the same time: some dozen browsers with six each.
const MAX_CONNECTIONS: usize = 256;
/// For a TLS handshake, and for the head of a request; also how long an idle connection stays.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the stop token is looked at.
const TICK: Duration = Duration::from_millis(100);
/// For answers under way when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests of one HTTP/2 connection at the same time.
const MAX_STREAMS: u32 = 32;
/// Bytes of header fields of a request.
const MAX_HEADERS: u32 = 32 << 10;

/// Where a request came from; an extension of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAddress(pub(super) SocketAddr);

/// Serves the page on `listener` until `stop`; by TLS with the identity of `access` where [`needs_tls`] says so.
pub async fn serve(
    listener: TcpListener,
    control: Arc<dyn Control>,
    access: Access,
    stop: CancelToken,
) -> io::Result<()> {
    let tls = if needs_tls(listener.local_addr()?.ip()) {
        let config = tls_config(access.identity()).map_err(io::Error::other)?;
        Some(TlsAcceptor::from(config))
    } else {
        None
    };
    let router = router(App::new(control, access, tls.is_some(), stop.clone()));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stopped = pin!(until(stop.clone()));
    loop {
        while connections.try_join_next().is_some() {}
        let accept = async {
            // None is ever closed, so a permit comes.
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stopped => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the browser went away: neither is for ever.
                tracing::warn!("web page: accepting a connection: {error}");
                tokio::time::sleep(TICK).await;
                continue;
            }
        };
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, peer, tls, router, stop).await;
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_TIMEOUT, ended).await;
    Ok(())
}

/// Ends when somebody cancels the token.
pub(super) async fn until(stop: CancelToken) {
    while !stop.is_cancelled() {
        tokio::time::sleep(TICK).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: CancelToken,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(stream, peer, router, stop).await,
        Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, peer, router, stop).await,
            Ok(Err(error)) => tracing::debug!("web page: TLS with {peer}: {error}"),
            Err(_) => tracing::debug!("web page: no TLS handshake from {peer}"),
        },
    }
}

async fn requests<S>(stream: S, peer: SocketAddr, router: Router, stop: CancelToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(Extension(PeerAddress(peer)).layer(router));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEADERS as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = until(stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("web page: connection of {peer}: {error}");
    }
}

/// TLS 1.3 for browsers: no client certificate is asked for, the key lets them in.
fn tls_config(identity: Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
