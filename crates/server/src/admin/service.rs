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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::watch;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::{CreatedToken, JobDetail, JobState, JobView, Progress, TokenView};

    /// One job with one line, and a second one when it has ended.
    struct OneJob {
        ended: AtomicBool,
        changes: watch::Sender<u64>,
    }

    impl Control for OneJob {
        fn jobs(&self) -> Result<Vec<JobView>, ControlError> {
            Err(ControlError::Internal("no disk".into()))
        }

        fn job(&self, id: JobId) -> Result<JobDetail, ControlError> {
            let state = if self.ended.load(Ordering::SeqCst) {
                JobState::Done
            } else {
                JobState::Copying
            };
            Ok(JobDetail {
                job: JobView {
                    id,
                    name: String::new(),
                    state,
                    text: String::new(),
                    machine: String::new(),
                    address: String::new(),
                    connected: true,
                    progress: Progress::default(),
                    created_unix_ms: 0,
                    ended_unix_ms: 0,
                    options: vec![],
                },
                disks: vec![],
                inventory: vec![],
                nics: vec![],
                concerns: vec![],
                guest: None,
                changes: vec![],
                placed: vec![],
                proof: vec![],
            })
        }

        fn approve(&self, _: JobId, _: Approval) -> Result<(), ControlError> {
            Err(ControlError::Refused("it runs".into()))
        }

        fn cancel(&self, id: JobId) -> Result<(), ControlError> {
            Err(ControlError::NotFound(format!("job {id}")))
        }

        fn retry(&self, _: JobId) -> Result<(), ControlError> {
            Ok(())
        }

        fn logs(&self, _: JobId, after: u64, limit: usize) -> Result<Vec<LogLine>, ControlError> {
            let lines = if self.ended.load(Ordering::SeqCst) {
                2
            } else {
                1
            };
            let line = |number| LogLine {
                number,
                unix_ms: 1,
                level: "info".into(),
                text: format!("line {number}"),
            };
            Ok((after + 1..=lines).map(line).take(limit).collect())
        }

        fn tokens(&self) -> Result<Vec<TokenView>, ControlError> {
            Ok(vec![])
        }

        fn create_token(&self, _: NewToken) -> Result<CreatedToken, ControlError> {
            Err(ControlError::Refused("no".into()))
        }

        fn revoke_token(&self, _: u64) -> Result<(), ControlError> {
            Ok(())
        }

        fn changes(&self) -> watch::Receiver<u64> {
            self.changes.subscribe()
        }
    }

    fn service() -> (Arc<OneJob>, AdminService) {
        let control = Arc::new(OneJob {
            ended: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        });
        let service = AdminService {
            control: Arc::clone(&control) as Arc<dyn Control>,
        };
        (control, service)
    }

    #[tokio::test]
    async fn a_log_is_followed_to_the_end_of_its_job() {
        let (control, service) = service();
        let request = |follow| Request::new(LogsRequest { id: 1, follow });
        let so_far = service.logs(request(false)).await.unwrap().into_inner();
        assert_eq!(so_far.collect::<Vec<_>>().await.len(), 1);
        let mut lines = service.logs(request(true)).await.unwrap().into_inner();
        assert_eq!(lines.next().await.unwrap().unwrap().text, "line 1");
        let pending = tokio::time::timeout(Duration::from_millis(50), lines.next()).await;
        assert!(pending.is_err());
        control.ended.store(true, Ordering::SeqCst);
        control.changes.send_replace(1);
        assert_eq!(lines.next().await.unwrap().unwrap().text, "line 2");
        assert!(lines.next().await.is_none());
    }

    #[tokio::test]
    async fn every_kind_of_refusal_has_its_code() {
        let (_, service) = service();
        let jobs = service.list_jobs(Request::new(ListJobsRequest {})).await;
        assert_eq!(jobs.unwrap_err().code(), tonic::Code::Internal);
        let cancel = Request::new(CancelJobRequest { id: 4 });
        let status = service.cancel_job(cancel).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::NotFound, "there is no job 4")
        );
        let approve = Request::new(ApproveJobRequest::default());
        let status = service.approve_job(approve).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    }
}
