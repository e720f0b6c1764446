//! Blocking client of the admin service.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use wire::admin::admin_client::AdminClient;
use wire::admin::{self, CreateTokenReply, LogEntry};

use super::SOCKET;
use crate::{Approval, JobDetail, JobId, JobView, NewToken, TokenView};

/// Largest answer: a list of some ten thousand jobs.
const MAX_MESSAGE_LEN: usize = 256 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call failed; one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No server answers on the socket.
    #[error("no server answers on {path}: {why}; is `v2v serve` running with this --state?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What connecting said.
        why: String,
    },
    /// There is no such job or token.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done in the state that it is in, or the options are wrong.
    #[error("{0}")]
    Refused(String),
    /// The server failed, or went away.
    #[error("{0}")]
    Failed(String),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(text),
            Code::FailedPrecondition | Code::InvalidArgument => Self::Refused(text),
            _ if text.is_empty() => Self::Failed(format!("the server failed: {}", status.code())),
            _ => Self::Failed(text),
        }
    }
}

/// One connection to the server's admin socket. Every call blocks until it is answered.
#[derive(Debug)]
pub struct Client {
    runtime: Runtime,
    client: AdminClient<Channel>,
}

impl Client {
    /// Connects to the server that runs on this state folder.
    pub fn connect(state: &Path) -> Result<Self, ClientError> {
        let path = state.join(SOCKET);
        let unreachable = |error: &dyn std::error::Error| ClientError::Unreachable {
            path: path.clone(),
            why: innermost(error),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable(&error))?;
        let socket = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let channel = runtime
            .block_on(
                Endpoint::from_static("http://v2v")
                    .connect_timeout(CONNECT_TIMEOUT)
                    .connect_with_connector(connector),
            )
            .map_err(|error| unreachable(&error))?;
        let client = AdminClient::new(channel).max_decoding_message_size(MAX_MESSAGE_LEN);
        Ok(Self { runtime, client })
    }

    /// Makes a token.
    pub fn create_token(&self, new: &NewToken) -> Result<CreateTokenReply, ClientError> {
        let request = admin::CreateTokenRequest {
            servers: new.servers.clone(),
            ttl_seconds: new.ttl_seconds,
            uses: new.uses,
            auto_approve: new.auto_approve,
            note: new.note.clone(),
        };
        let mut client = self.client.clone();
        Ok(self
            .runtime
            .block_on(client.create_token(request))?
            .into_inner())
    }

    /// Every token, oldest first.
    pub fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        let mut client = self.client.clone();
        let reply = self
            .runtime
            .block_on(client.list_tokens(admin::ListTokensRequest {}))?;
        reply
            .into_inner()
            .tokens_json
            .iter()
            .map(|json| parse(json))
            .collect()
    }

    /// Withdraws a token.
    pub fn revoke_token(&self, id: u64) -> Result<(), ClientError> {
        let mut client = self.client.clone();
        self.runtime
            .block_on(client.revoke_token(admin::RevokeTokenRequest { id }))?;
        Ok(())
    }

    /// Every job, oldest first.
    pub fn jobs(&self) -> Result<Vec<JobView>, ClientError> {
        let mut client = self.client.clone();
        let reply = self
            .runtime
            .block_on(client.list_jobs(admin::ListJobsRequest {}))?;
        reply
            .into_inner()
            .jobs_json
            .iter()
            .map(|json| parse(json))
            .collect()
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Result<JobDetail, ClientError> {
        let mut client = self.client.clone();
        let reply = self
            .runtime
            .block_on(client.show_job(admin::ShowJobRequest { id: id.0 }))?;
        parse(&reply.into_inner().job_json)
    }

    /// Says yes to a job, or gives keys to one that waits for them.
    pub fn approve(&self, id: JobId, approval: &Approval) -> Result<(), ClientError> {
        let keys = approval.keys.iter().map(|(id, secret)| admin::Key {
            id: id.clone(),
            secret: secret.clone(),
        });
        let request = admin::ApproveJobRequest {
            id: id.0,
            options: approval.options.clone(),
            keys: keys.collect(),
        };
        let mut client = self.client.clone();
        self.runtime.block_on(client.approve_job(request))?;
        Ok(())
    }

    /// Gives a job up.
    pub fn cancel(&self, id: JobId) -> Result<(), ClientError> {
        let mut client = self.client.clone();
        self.runtime
            .block_on(client.cancel_job(admin::CancelJobRequest { id: id.0 }))?;
        Ok(())
    }

    /// Starts a failed or cancelled job again.
    pub fn retry(&self, id: JobId) -> Result<(), ClientError> {
        let mut client = self.client.clone();
        self.runtime
            .block_on(client.retry_job(admin::RetryJobRequest { id: id.0 }))?;
        Ok(())
    }

    /// Hands every log line to `line` until it returns false or there is none left; with `follow`, goes on until the
    /// job has ended.
    pub fn logs(
        &self,
        id: JobId,
        follow: bool,
        line: &mut dyn FnMut(LogEntry) -> bool,
    ) -> Result<(), ClientError> {
        let mut client = self.client.clone();
        self.runtime.block_on(async {
            let request = admin::LogsRequest { id: id.0, follow };
            let mut stream = client.logs(request).await?.into_inner();
            while let Some(entry) = stream.message().await? {
                if !line(entry) {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn parse<T: DeserializeOwned>(json: &str) -> Result<T, ClientError> {
    serde_json::from_str(json).map_err(|error| {
        ClientError::Failed(format!("the server's answer cannot be read: {error}"))
    })
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
