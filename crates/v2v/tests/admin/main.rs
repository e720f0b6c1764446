#![expect(clippy::unwrap_used, reason = "test helpers may unwrap")]
//! `v2v token` and `v2v jobs` against a made-up server on a unix socket; `v2v serve` where it refuses.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use server::{DiskView, JobDetail, JobId, JobState, JobView, Progress, TokenView};
use tokio::net::UnixListener;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use wire::admin::admin_server::{Admin, AdminServer};
use wire::admin::*;

const JOIN: &str = "v2v1.join-string";

#[derive(Clone, Default)]
struct Fake {
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn call(&self, text: String) {
        self.calls.lock().unwrap().push(text);
    }
}

fn view(id: u64) -> JobView {
    JobView {
        id: JobId(id),
        name: format!("web{id}"),
        state: JobState::Copying,
        text: "copying \x1b[31msda".into(),
        machine: "Dell R630".into(),
        address: "192.0.2.9".into(),
        connected: true,
        progress: Progress {
            done_bytes: 5 << 30,
            total_bytes: 20 << 30,
            rate_bytes: 50 << 20,
            eta_seconds: 307,
            ..Progress::default()
        },
        created_unix_ms: 1_795_272_874_000,
        ended_unix_ms: 0,
        options: vec!["-o".into(), "null".into()],
    }
}

fn detail(id: u64) -> JobDetail {
    JobDetail {
        job: view(id),
        disks: vec![DiskView {
            name: "sda".into(),
            model: "ST600".into(),
            virtual_size: 600 << 30,
            done_bytes: 5 << 30,
            total_bytes: 20 << 30,
            bad: vec![4096..8192, 1 << 20..2 << 20],
            health: "passed".into(),
        }],
        inventory: vec![("Firmware".into(), "UEFI".into())],
        nics: vec![("eno1".into(), "52:54:00:00:00:01".into(), "default".into())],
        concerns: vec!["sda3 is encrypted".into()],
        guest: Some("Debian 12".into()),
        changes: vec![],
        placed: vec![],
        proof: vec![],
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn known(id: u64) -> Result<u64, Status> {
    match id {
        3 => Ok(3),
        id => Err(Status::not_found(format!("there is no job {id}"))),
    }
}

#[tonic::async_trait]
impl Admin for Fake {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenReply>, Status> {
        self.call(format!("{:?}", request.into_inner()));
        Ok(Response::new(CreateTokenReply {
            join: JOIN.into(),
            id: 7,
            expires_unix_ms: 1_795_272_874_000,
            fingerprint: "ab".repeat(32),
            code: "AAAA-BBBB".into(),
        }))
    }
    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensReply>, Status> {
        let token = TokenView {
            id: 7,
            note: "rack 4".into(),
            created_unix_ms: 0,
            expires_unix_ms: 4_102_444_800_000,
            uses: 2,
            used: 1,
            revoked: false,
            auto_approve: false,
        };
        let tokens_json = vec![json(&token)];
        Ok(Response::new(ListTokensReply { tokens_json }))
    }
    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenReply>, Status> {
        self.call(format!("revoke {}", request.into_inner().id));
        Ok(Response::new(RevokeTokenReply {}))
    }
    async fn list_jobs(
        &self,
        _: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsReply>, Status> {
        let jobs_json = vec![json(&view(3)), json(&view(4))];
        Ok(Response::new(ListJobsReply { jobs_json }))
    }
    async fn show_job(
        &self,
        request: Request<ShowJobRequest>,
    ) -> Result<Response<ShowJobReply>, Status> {
        let id = known(request.into_inner().id)?;
        let job_json = json(&detail(id));
        Ok(Response::new(ShowJobReply { job_json }))
    }
    async fn approve_job(
        &self,
        request: Request<ApproveJobRequest>,
    ) -> Result<Response<ApproveJobReply>, Status> {
        let request = request.into_inner();
        let keys: Vec<_> = request
            .keys
            .iter()
            .map(|key| format!("{}={}", key.id, String::from_utf8_lossy(&key.secret)))
            .collect();
        self.call(format!(
            "approve {} {:?} {keys:?}",
            request.id, request.options
        ));
        Ok(Response::new(ApproveJobReply {}))
    }
    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobReply>, Status> {
        self.call(format!("cancel {}", known(request.into_inner().id)?));
        Ok(Response::new(CancelJobReply {}))
    }
    async fn retry_job(
        &self,
        request: Request<RetryJobRequest>,
    ) -> Result<Response<RetryJobReply>, Status> {
        self.call(format!("retry {}", known(request.into_inner().id)?));
        Err(Status::failed_precondition(
            "job 3 is copying: only an ended job can be tried again",
        ))
    }

    type LogsStream = ReceiverStream<Result<LogEntry, Status>>;

    async fn logs(
        &self,
        request: Request<LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        known(request.id)?;
        let (sender, lines) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            for number in 0..if request.follow { 5 } else { 2 } {
                if number >= 2 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let line = LogEntry {
                    unix_ms: 1_795_272_874_000 + number * 1000,
                    level: "info".into(),
                    text: format!("line {number} \x1b[2J"),
                };
                let _ = sender.send(Ok(line)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(lines)))
    }
}

struct Served {
    dir: tempfile::TempDir,
    fake: Fake,
    _runtime: tokio::runtime::Runtime,
}

struct Said {
    ok: bool,
    out: String,
    err: String,
}

fn v2v(args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_v2v"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said {
        ok: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Served {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let fake = Fake::default();
        let _entered = runtime.enter();
        let listener = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let service = AdminServer::new(fake.clone());
        runtime.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        drop(_entered);
        Self {
            dir,
            fake,
            _runtime: runtime,
        }
    }

    fn v2v(&self, args: &[&str]) -> Said {
        let state = self.dir.path().to_str().unwrap();
        let (command, rest) = args.split_first().unwrap();
        v2v(&[&[*command, "--state", state], rest].concat())
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.calls.lock().unwrap())
    }
}

#[test]
fn a_token_s_join_string_is_alone_on_stdout() {
    let served = Served::new();
    let said = served.v2v(&[
        "token",
        "create",
        "--server",
        "192.0.2.1:7440",
        "--server",
        "[2001:db8::1]:7440",
        "--ttl",
        "1h30m",
        "--uses",
        "3",
        "--auto-approve",
        "--note",
        "rack 4",
    ]);
    assert!(said.ok, "{}", said.err);
    assert_eq!(said.out, format!("{JOIN}\n"));
    for word in [
        "2026-11-21 14:54:34 UTC",
        "AAAA-BBBB",
        &"ab".repeat(32),
        &format!("p2v.join={JOIN}"),
    ] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
    let told = served.told().remove(0);
    for word in [
        "192.0.2.1:7440\", \"[2001:db8::1]:7440\"",
        "ttl_seconds: 5400",
        "uses: 3",
        "auto_approve: true",
        "rack 4",
    ] {
        assert!(told.contains(word), "{told}");
    }
    let said = served.v2v(&["token", "create", "--json"]);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["join"], JOIN);
    assert_eq!(value["id"], 7);
    // The server's defaults.
    let told = served.told().remove(0);
    assert!(told.contains("ttl_seconds: 0, uses: 1"), "{told}");
    for wrong in [&["--ttl", "5"][..], &["--uses", "0"]] {
        let said = served.v2v(&[&["token", "create"][..], wrong].concat());
        assert!(!said.ok && said.err.contains(wrong[0]), "{}", said.err);
    }
}

#[test]
fn tokens_are_listed_and_withdrawn() {
    let served = Served::new();
    let said = served.v2v(&["token", "list"]);
    assert_eq!(
        said.out,
        "ID  STATE  USED    APPROVAL  EXPIRES                  NOTE\n\
         7   valid  1 of 2  needed    2100-01-01 00:00:00 UTC  rack 4\n"
    );
    let said = served.v2v(&["token", "list", "--json"]);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value[0]["note"], "rack 4");
    let said = served.v2v(&["token", "revoke", "7"]);
    assert!(said.ok && said.out.is_empty(), "{}", said.err);
    assert_eq!(served.told(), ["revoke 7"]);
}

#[test]
fn jobs_are_listed_and_shown_without_escape_sequences() {
    let served = Served::new();
    let said = served.v2v(&["jobs", "list"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[1],
        "3   web3  copying  25 %  50.0 MiB/s  5 min  connected  copying \u{fffd}[31msda"
    );
    let said = served.v2v(&["jobs", "show", "3"]);
    for word in [
        "web3",
        "5.00 GiB of 20.0 GiB (25 %)",
        "sda3 is encrypted",
        "600 GiB",
        "1048576    1048576",
        "52:54:00:00:00:01",
        "2026-11-21 14:54:34 UTC",
        "Debian 12",
        "Firmware: UEFI",
    ] {
        assert!(said.out.contains(word), "{word}:\n{}", said.out);
    }
    assert!(!said.out.contains('\x1b'));
    let said = served.v2v(&["jobs", "show", "3", "--json"]);
    let shown: JobDetail = serde_json::from_str(&said.out).unwrap();
    assert_eq!(shown, detail(3));
    let said = served.v2v(&["jobs", "list", "--json"]);
    let listed: Vec<JobView> = serde_json::from_str(&said.out).unwrap();
    assert_eq!(listed, [view(3), view(4)]);
}

#[test]
fn approving_carries_options_and_keys() {
    let served = Served::new();
    let file = served.dir.path().join("key");
    std::fs::write(&file, "from file").unwrap();
    let from_file = format!("sdb1:file:{}", file.display());
    let said = served.v2v(&[
        "jobs",
        "approve",
        "3",
        "--key",
        "all:key:hunter2",
        "--key",
        &from_file,
        "--",
        "-on",
        "web 1",
        "-os",
        "/x",
    ]);
    assert!(said.ok, "{}", said.err);
    assert_eq!(
        served.told(),
        [r#"approve 3 ["-on", "web 1", "-os", "/x"] ["all=hunter2", "sdb1=from file"]"#]
    );
    assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"));
    let said = served.v2v(&["jobs", "approve", "3", "--", "--key", "all:key:hunter2"]);
    assert!(
        !said.ok && said.err.contains("--key goes before --"),
        "{}",
        said.err
    );
    assert!(served.told().is_empty());
}

#[test]
fn refusals_of_the_server_are_one_line() {
    let served = Served::new();
    assert!(served.v2v(&["jobs", "cancel", "3"]).ok);
    for (args, line) in [
        (["jobs", "show", "9"], "v2v: error: there is no job 9\n"),
        (
            ["jobs", "retry", "3"],
            "v2v: error: job 3 is copying: only an ended job can be tried again\n",
        ),
        (["jobs", "logs", "9"], "v2v: error: there is no job 9\n"),
    ] {
        let said = served.v2v(&args);
        assert!(!said.ok);
        assert_eq!(said.err, line);
    }
    assert_eq!(served.told(), ["cancel 3", "retry 3"]);
}

#[test]
fn logs_are_printed_and_followed() {
    let served = Served::new();
    let said = served.v2v(&["jobs", "logs", "3"]);
    assert_eq!(
        said.out,
        "2026-11-21T14:54:34Z info    line 0 \u{fffd}[2J\n2026-11-21T14:54:35Z info    line 1 \u{fffd}[2J\n"
    );
    let said = served.v2v(&["jobs", "logs", "3", "-f", "--json"]);
    let last: Value = serde_json::from_str(said.out.lines().nth(4).unwrap()).unwrap();
    assert_eq!(last["unix_ms"], 1_795_272_878_000u64);
    assert!(!said.out.contains('\x1b'));
}

#[test]
fn no_server_is_said_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let said = v2v(&["jobs", "list", "--state", state]);
    assert!(!said.ok);
    assert!(
        said.err.contains("admin.sock") && said.err.contains("v2v serve --state"),
        "{}",
        said.err
    );
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(Path::new(state).read_dir().unwrap().next().is_none());
}

#[test]
fn serve_refuses_what_it_cannot_mean() {
    for (args, word) in [
        (&["serve", "-i", "disk", "x.img"][..], "x.img"),
        (&["serve", "-i", "ova"], "-i does not go here"),
        (&["serve", "-o", "local"], "-os DIR"),
        (&["serve", "--web", "nowhere"], "--web"),
        (&["serve", "--bandwidth", "much"], "--bandwidth"),
    ] {
        let said = v2v(args);
        assert!(!said.ok && said.out.is_empty());
        assert!(said.err.contains(word), "{args:?}: {}", said.err);
    }
}
