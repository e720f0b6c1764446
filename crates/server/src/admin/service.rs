//! The admin service: every call is one of [`Control`]'s.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::admin::admin_server::{Admin, AdminServer};
use wire::admin::{
    ApproveJobReply, ApproveJobRequest, CancelJobReply, CancelJobRequest, CreateTokenReply,
    CreateTokenRequest, ListJobsReply, ListJobsRequest, ListTokensReply, ListTokensRequest,
    LogEntry, LogsRequest, RetryJobReply, RetryJobRequest, RevokeTokenReply, RevokeTokenRequest,
    ShowJobReply, ShowJobRequest,
};

use crate::{Approval, Control, ControlError, JobId, LogLine, NewToken};

/// Log lines that are read at a time.
const LOG_BATCH: usize = 500;
/// Log entries that wait for a slow reader.
const LOG_QUEUE: usize = 64;

/// The service.
#[derive(Clone)]
pub(crate) struct AdminService {
    control: Arc<dyn Control>,
}

impl AdminService {
    /// The gRPC service over this control.
    pub(crate) fn server(control: Arc<dyn Control>) -> AdminServer<Self> {
        AdminServer::new(Self { control })
    }

    /// Runs a call where it may block.
    async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Control) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, Status> {
        let control = Arc::clone(&self.control);
        tokio::task::spawn_blocking(move || call(control.as_ref()))
            .await
            .map_err(|_| Status::internal("the server failed inside; its log says where"))?
            .map_err(status)
    }
}

/// Kind of refusal to status code.
#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn status(error: ControlError) -> Status {
    let text = error.to_string();
    match error {
        ControlError::NotFound(_) => Status::not_found(text),
        ControlError::Refused(_) => Status::failed_precondition(text),
        ControlError::Internal(_) => Status::internal(text),
    }
}

fn json(value: &impl Serialize) -> Result<String, Status> {
    serde_json::to_string(value).map_err(|error| Status::internal(error.to_string()))
}

fn entry(line: LogLine) -> LogEntry {
    LogEntry {
        unix_ms: line.unix_ms,
        level: line.level,
        text: line.text,
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenReply>, Status> {
        let request = request.into_inner();
        let new = NewToken {
            servers: request.servers,
            ttl_seconds: request.ttl_seconds,
            uses: request.uses,
            auto_approve: request.auto_approve,
            note: request.note,
        };
        let token = self.ask(|control| control.create_token(new)).await?;
        Ok(Response::new(CreateTokenReply {
            join: token.join.to_string(),
            id: token.id,
            expires_unix_ms: token.expires_unix_ms,
            fingerprint: token.join.fingerprint.to_string(),
            code: token.join.secret.code(),
        }))
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensReply>, Status> {
        let tokens = self.ask(|control| control.tokens()).await?;
        let tokens_json = tokens.iter().map(json).collect::<Result<_, _>>()?;
        Ok(Response::new(ListTokensReply { tokens_json }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenReply>, Status> {
        let id = request.into_inner().id;
        self.ask(move |control| control.revoke_token(id)).await?;
        Ok(Response::new(RevokeTokenReply {}))
    }

    async fn list_jobs(
        &self,
        _: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsReply>, Status> {
        let jobs = self.ask(|control| control.jobs()).await?;
        let jobs_json = jobs.iter().map(json).collect::<Result<_, _>>()?;
        Ok(Response::new(ListJobsReply { jobs_json }))
    }

    async fn show_job(
        &self,
        request: Request<ShowJobRequest>,
    ) -> Result<Response<ShowJobReply>, Status> {
        let id = JobId(request.into_inner().id);
        let job = self.ask(move |control| control.job(id)).await?;
        Ok(Response::new(ShowJobReply {
            job_json: json(&job)?,
        }))
    }

    async fn approve_job(
        &self,
        request: Request<ApproveJobRequest>,
    ) -> Result<Response<ApproveJobReply>, Status> {
        let request = request.into_inner();
        let keys = request.keys.into_iter().map(|key| (key.id, key.secret));
        let approval = Approval {
            options: request.options,
            keys: keys.collect(),
        };
        let id = JobId(request.id);
        self.ask(move |control| control.approve(id, approval))
            .await?;
        Ok(Response::new(ApproveJobReply {}))
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobReply>, Status> {
        let id = JobId(request.into_inner().id);
        self.ask(move |control| control.cancel(id)).await?;
        Ok(Response::new(CancelJobReply {}))
    }

    async fn retry_job(
        &self,
        request: Request<RetryJobRequest>,
    ) -> Result<Response<RetryJobReply>, Status> {
        let id = JobId(request.into_inner().id);
        self.ask(move |control| control.retry(id)).await?;
        Ok(Response::new(RetryJobReply {}))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogEntry, Status>> + Send>>;

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let LogsRequest { id, follow } = request.into_inner();
        let id = JobId(id);
        self.ask(move |control| control.logs(id, 0, 1)).await?;
        let (sender, receiver) = mpsc::channel(LOG_QUEUE);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.send_logs(id, follow, &sender).await {
                // The reader may have gone.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl AdminService {
    async fn send_logs(
        &self,
        id: JobId,
        follow: bool,
        sender: &mpsc::Sender<Result<LogEntry, Status>>,
    ) -> Result<(), Status> {
        let mut changes = self.control.changes();
        let mut after = 0;
        loop {
            changes.mark_unchanged();
            // Asked before the lines are read: what is logged at the end is not missed.
            let ended = !follow
                || self
                    .ask(move |control| Ok(control.job(id)?.job.state.is_ended()))
                    .await?;
            loop {
                let lines = self
                    .ask(move |control| control.logs(id, after, LOG_BATCH))
                    .await?;
                let Some(last) = lines.last() else {
                    break;
                };
                after = last.number;
                for line in lines {
                    if sender.send(Ok(entry(line))).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if ended {
                return Ok(());
            }
            tokio::select! {
                () = sender.closed() => return Ok(()),
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
