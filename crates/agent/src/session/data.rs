//! Data streams: requests in, chunks out, each stream on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};
use wire::session::session_client::SessionClient;
use wire::{MAX_MESSAGE_LEN, SESSION_METADATA};

use super::backoff::Backoff;
use super::control::Link;
use crate::disks::{Pool, outbox};

const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// While more requests wait than the pool keeps, no further ones are taken.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Keeps one data stream open for as long as the control stream stands.
pub(super) async fn run(link: Arc<Link>, pool: Arc<Pool>) {
    let mut backoff = Backoff::new(link.first_pause);
    loop {
        let mut opened = false;
        if let Err(status) = stream(&link, &pool, &mut opened).await {
            tracing::debug!("a data stream ended: {}", super::describe(&status));
        }
        if opened {
            backoff.reset();
        }
        sleep(backoff.next()).await;
    }
}

async fn stream(link: &Link, pool: &Pool, opened: &mut bool) -> Result<(), Status> {
    let target = crate::config::Target {
        addresses: vec![link.address.clone()],
        ..link.target.clone()
    };
    let (_, channel) = super::dial::any(&target, Some(link.identity.clone()))
        .await
        .map_err(|error| Status::unavailable(error.message))?;
    let mut client = SessionClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_LEN)
        .max_encoding_message_size(MAX_MESSAGE_LEN);
    let (outbox, outgoing) = outbox();
    let mut request = Request::new(outgoing);
    let session = MetadataValue::try_from(HEXLOWER.encode(&link.session))
        .map_err(|error| Status::internal(error.to_string()))?;
    request.metadata_mut().insert(SESSION_METADATA, session);
    let mut requests = timeout(OPEN_TIMEOUT, client.data(request))
        .await
        .map_err(|_| Status::new(Code::DeadlineExceeded, "a data stream was not opened"))??
        .into_inner();
    *opened = true;
    while let Some(request) = requests.message().await? {
        while !pool.read(request.clone(), &outbox) {
            sleep(FULL_PAUSE).await;
        }
    }
    Ok(())
}
