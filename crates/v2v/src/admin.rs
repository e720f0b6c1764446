//! The client of a running server's admin socket, STATE/admin.sock (proto/admin.proto). Calls block.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};
use wire::admin::admin_client::AdminClient;
use wire::admin::{
    ApproveJobRequest, CancelJobRequest, CreateTokenReply, CreateTokenRequest, ListJobsRequest,
    ListTokensRequest, LogEntry, LogsRequest, RetryJobRequest, RevokeTokenRequest, ShowJobRequest,
};

/// Where a server keeps its state unless told otherwise.
pub(crate) const STATE: &str = "/var/lib/v2v";
/// Largest reply: a list of some ten thousand jobs.
const MAX_REPLY: usize = 64 << 20;
/// For one answer; the log of a running job has no limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Which server, and how its answers are printed; of every command that talks to one.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// State folder of the server
    #[arg(long, value_name = "DIR", default_value = STATE, global = true)]
    pub(crate) state: PathBuf,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What the command line asks of a server. Lists and jobs are JSON documents of the types in `server`.
pub(crate) trait Admin {
    fn create_token(&self, request: CreateTokenRequest) -> Result<CreateTokenReply>;
    fn tokens(&self) -> Result<Vec<String>>;
    fn revoke_token(&self, id: u64) -> Result<()>;
    fn jobs(&self) -> Result<Vec<String>>;
    fn job(&self, id: u64) -> Result<String>;
    fn approve(&self, request: ApproveJobRequest) -> Result<()>;
    fn cancel(&self, id: u64) -> Result<()>;
    fn retry(&self, id: u64) -> Result<()>;
    /// Gives every line to `each`; with `follow` until the job has ended. False from `each` ends it early.
    fn logs(
        &self,
        id: u64,
        follow: bool,
        each: &mut dyn FnMut(LogEntry) -> Result<bool>,
    ) -> Result<()>;
}

/// A connection to the socket.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    rpc: AdminClient<Channel>,
}

impl Client {
    /// Connects to the server whose state is in `state`.
    pub(crate) fn connect(state: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the client")?;
        let socket = state.join("admin.sock");
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = runtime
            .block_on(Endpoint::from_static("http://admin").connect_with_connector(connector))
            .with_context(|| {
                format!(
                    "connecting to {}: is `v2v serve --state {}` running, and may you open its socket?",
                    socket.display(),
                    state.display()
                )
            })?;
        let rpc = AdminClient::new(channel).max_decoding_message_size(MAX_REPLY);
        Ok(Self { runtime, rpc })
    }

    fn call<T>(&self, answer: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
        self.runtime.block_on(async {
            match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(answer) => answer.map(Response::into_inner).map_err(explain),
                Err(_) => bail!(
                    "the server did not answer within {} s",
                    ANSWER_TIMEOUT.as_secs()
                ),
            }
        })
    }
}

/// What the server said; where it said nothing, what became of it.
#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn explain(status: Status) -> anyhow::Error {
    let text = server::web::humane::clean(status.message()).into_owned();
    match status.code() {
        Code::Unavailable | Code::Cancelled => {
            anyhow::anyhow!("the connection to the server was lost: {text}")
        }
        code if text.is_empty() => anyhow::anyhow!("the server refused: {code}"),
        _ => anyhow::Error::msg(text),
    }
}

impl Admin for Client {
    fn create_token(&self, request: CreateTokenRequest) -> Result<CreateTokenReply> {
        let mut rpc = self.rpc.clone();
        self.call(rpc.create_token(request))
    }

    fn tokens(&self) -> Result<Vec<String>> {
        let mut rpc = self.rpc.clone();
        Ok(self
            .call(rpc.list_tokens(ListTokensRequest {}))?
            .tokens_json)
    }

    fn revoke_token(&self, id: u64) -> Result<()> {
        let mut rpc = self.rpc.clone();
        self.call(rpc.revoke_token(RevokeTokenRequest { id }))?;
        Ok(())
    }

    fn jobs(&self) -> Result<Vec<String>> {
        let mut rpc = self.rpc.clone();
        Ok(self.call(rpc.list_jobs(ListJobsRequest {}))?.jobs_json)
    }

    fn job(&self, id: u64) -> Result<String> {
        let mut rpc = self.rpc.clone();
        Ok(self.call(rpc.show_job(ShowJobRequest { id }))?.job_json)
    }

    fn approve(&self, request: ApproveJobRequest) -> Result<()> {
        let mut rpc = self.rpc.clone();
        self.call(rpc.approve_job(request))?;
        Ok(())
    }

    fn cancel(&self, id: u64) -> Result<()> {
        let mut rpc = self.rpc.clone();
        self.call(rpc.cancel_job(CancelJobRequest { id }))?;
        Ok(())
    }

    fn retry(&self, id: u64) -> Result<()> {
        let mut rpc = self.rpc.clone();
        self.call(rpc.retry_job(RetryJobRequest { id }))?;
        Ok(())
    }

    fn logs(
        &self,
        id: u64,
        follow: bool,
        each: &mut dyn FnMut(LogEntry) -> Result<bool>,
    ) -> Result<()> {
        let mut rpc = self.rpc.clone();
        let mut lines = self.call(rpc.logs(LogsRequest { id, follow }))?;
        loop {
            let line = self.runtime.block_on(lines.message()).map_err(explain)?;
            let Some(line) = line else { return Ok(()) };
            if !each(line)? {
                return Ok(());
            }
        }
    }
}
