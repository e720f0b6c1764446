//! The page from outside: requests to the router, and to the listener over TCP and TLS.

use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Request};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::ServiceExt;
use types::CancelToken;
use wire::join::{Fingerprint, JoinString, Secret};
use wire::tls::Identity;

use super::*;
use crate::{
    Approval, CreatedToken, DiskView, JobDetail, JobState, JobView, LogLine, NewToken, Progress,
    ProofRange, TokenView,
};

const KEY: &str = "abcdefghijklmnop0123";
const SECRET: &str = "correct horse battery";

pub(super) fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["v2v".to_owned()]).unwrap();
    Identity {
        certificate: made.cert.der().clone(),
        key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
    }
}

/// Two jobs of a hostile machine; remembers what it was told.
struct Fake {
    calls: Mutex<Vec<String>>,
    approvals: Mutex<Vec<Approval>>,
    changes: watch::Sender<u64>,
    lines: u64,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            approvals: Mutex::default(),
            changes: watch::Sender::new(7),
            lines: 2500,
        })
    }

    fn call(&self, text: String) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }

    fn told(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

const EVIL: &str = "<script>alert('x')</script>\u{202e}\x1b[2J\" onload=\"x";

fn view(id: u64, state: JobState) -> JobView {
    JobView {
        id: JobId(id),
        name: format!("{EVIL}{id}"),
        state,
        text: EVIL.into(),
        machine: EVIL.into(),
        address: EVIL.into(),
        connected: true,
        progress: Progress {
            done_bytes: 10 << 30,
            total_bytes: 40 << 30,
            rate_bytes: 50 << 20,
            eta_seconds: 725,
            received_bytes: 9 << 30,
            ..Progress::default()
        },
        created_unix_ms: 1_795_272_874_000,
        ended_unix_ms: 0,
        options: vec!["-on".into(), EVIL.into()],
    }
}

fn detail(id: u64) -> JobDetail {
    let evil = || EVIL.to_owned();
    JobDetail {
        job: view(
            id,
            if id == 1 {
                JobState::WaitingForApproval
            } else {
                JobState::Copying
            },
        ),
        disks: vec![DiskView {
            name: evil(),
            model: evil(),
            virtual_size: 1 << 40,
            done_bytes: 1,
            total_bytes: 2,
            // The second as only a lying agent has it.
            bad: vec![
                4096..8192,
                std::ops::Range {
                    start: u64::MAX,
                    end: 0,
                },
            ],
            health: evil(),
        }],
        inventory: vec![(evil(), evil())],
        nics: vec![(evil(), evil(), evil())],
        concerns: vec![evil()],
        guest: Some(evil()),
        changes: vec![types::Change {
            step: evil(),
            path: evil(),
            before: None,
            after: None,
            why: evil(),
        }],
        placed: vec![evil()],
        proof: vec![ProofRange {
            disk: 9,
            offset: 0,
            len: u64::MAX,
            covered_bytes: u64::MAX,
            root: evil(),
        }],
    }
}

impl Control for Fake {
    fn jobs(&self) -> Result<Vec<JobView>, ControlError> {
        Ok(vec![
            view(1, JobState::WaitingForApproval),
            view(2, JobState::Copying),
        ])
    }
    fn job(&self, id: JobId) -> Result<JobDetail, ControlError> {
        match id.0 {
            1 | 2 => Ok(detail(id.0)),
            _ => Err(ControlError::NotFound(format!("job {id}"))),
        }
    }
    fn approve(&self, id: JobId, approval: Approval) -> Result<(), ControlError> {
        if approval.options.iter().any(|word| word == "-i") {
            return Err(ControlError::Refused("-i does not go here".into()));
        }
        self.call(format!("approve {id}"));
        self.approvals.lock().unwrap().push(approval);
        Ok(())
    }
    fn cancel(&self, id: JobId) -> Result<(), ControlError> {
        self.call(format!("cancel {id}"));
        Ok(())
    }
    fn retry(&self, id: JobId) -> Result<(), ControlError> {
        self.call(format!("retry {id}"));
        Ok(())
    }
    fn logs(&self, _: JobId, after: u64, limit: usize) -> Result<Vec<LogLine>, ControlError> {
        assert!(limit <= 1000, "{limit}");
        Ok((after + 1..=self.lines)
            .take(limit)
            .map(|number| LogLine {
                number,
                unix_ms: 1_795_272_874_000,
                level: "info".into(),
                text: format!("line {number} {EVIL}"),
            })
            .collect())
    }
    fn tokens(&self) -> Result<Vec<TokenView>, ControlError> {
        Ok(vec![TokenView {
            id: 3,
            note: EVIL.into(),
            created_unix_ms: 0,
            expires_unix_ms: u64::MAX,
            uses: 2,
            used: 1,
            revoked: false,
            auto_approve: false,
        }])
    }
    fn create_token(&self, new: NewToken) -> Result<CreatedToken, ControlError> {
        self.call(format!("{new:?}"));
        Ok(CreatedToken {
            id: 4,
            join: JoinString {
                servers: vec!["192.0.2.1:7440".into()],
                fingerprint: Fingerprint([1; 32]),
                secret: Secret([2; 16]),
            },
            expires_unix_ms: 1_795_272_874_000,
        })
    }
    fn revoke_token(&self, id: u64) -> Result<(), ControlError> {
        self.call(format!("revoke {id}"));
        Ok(())
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

struct Browser {
    router: Router,
    fake: Arc<Fake>,
    cookie: String,
    stop: CancelToken,
}

impl Browser {
    fn new() -> Self {
        let fake = Fake::new();
        let access = Access::new(KEY, identity()).unwrap();
        let stop = CancelToken::new();
        let app = App::new(fake.clone(), access, false, stop.clone());
        Self {
            router: router(app),
            fake,
            cookie: String::new(),
            stop,
        }
    }

    async fn signed_in() -> Self {
        let mut browser = Self::new();
        let page = browser.get(&format!("/?key={KEY}")).await;
        assert_eq!(
            (page.status, &page.headers[LOCATION]),
            (303, &"/".parse().unwrap())
        );
        browser.take_cookie(&page);
        browser
    }

    fn take_cookie(&mut self, page: &Page) {
        let set = page.headers[SET_COOKIE].to_str().unwrap();
        for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(set.contains(word), "{set}");
        }
        self.cookie = set.split(';').next().unwrap().to_owned();
    }

    async fn send(&self, mut request: Request<Body>) -> Page {
        if !self.cookie.is_empty() {
            let cookie = format!("other=1; {}", self.cookie).parse().unwrap();
            request.headers_mut().insert(COOKIE, cookie);
        }
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        Page {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(body.into()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Page {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = form(fields);
        let request = Request::post(path)
            .header("host", "127.0.0.1:7480")
            .header("origin", "http://127.0.0.1:7480")
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    async fn csrf(&self) -> String {
        let text = self.get("/jobs/1").await.text;
        let (_, rest) = text.split_once("name=\"csrf\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let encode =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.join("&")
}

#[tokio::test]
async fn nothing_is_shown_without_the_key() {
    let browser = Browser::new();
    for path in [
        "/",
        "/jobs/1",
        "/tokens",
        "/jobs/1/log.txt",
        "/jobs/1/cancel",
        "/nothing",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 401, "{path}");
        assert!(page.text.contains("type=\"password\"") && !page.text.contains("alert("));
    }
    for path in [
        "/api/jobs",
        "/api/jobs/1",
        "/api/jobs/1/logs",
        "/metrics",
        "/events",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 401, "{path}");
        assert!(page.text.starts_with("{\"error\""), "{}", page.text);
    }
    for path in [
        "/jobs/1/approve",
        "/jobs/1/cancel",
        "/jobs/1/retry",
        "/tokens",
        "/tokens/3/revoke",
        "/logout",
    ] {
        assert_eq!(
            browser.post(path, &[("csrf", "x")]).await.status,
            401,
            "{path}"
        );
    }
    assert!(browser.fake.told().is_empty());
    for path in ["/healthz", "/style.css", "/app.js", "/icon.svg"] {
        assert_eq!(browser.get(path).await.status, 200, "{path}");
    }
    assert_eq!(browser.get("/healthz").await.text, "ok\n");
}

#[tokio::test]
async fn the_key_opens_by_link_form_and_bearer() {
    let mut browser = Browser::signed_in().await;
    assert_eq!(browser.get("/").await.status, 200);
    let cookie = std::mem::take(&mut browser.cookie);

    let page = browser.get("/jobs/2?key=mistaken").await;
    assert_eq!(page.status, 401);
    assert!(!page.headers.contains_key(SET_COOKIE) && !page.text.contains("mistaken"));
    let page = browser
        .post("/login", &[("key", "wrong"), ("next", "/jobs/2")])
        .await;
    assert_eq!(page.status, 401);
    assert!(page.text.contains("This is not the key") && page.text.contains("value=\"/jobs/2\""));
    let page = browser
        .post("/login", &[("key", KEY), ("next", "/jobs/2")])
        .await;
    assert_eq!(
        (page.status, &page.headers[LOCATION]),
        (303, &"/jobs/2".parse().unwrap())
    );
    browser.take_cookie(&page);
    assert_eq!(browser.get("/jobs/2").await.status, 200);

    browser.cookie.clear();
    let bearer = |path: &str, key: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {key}"));
        request.body(Body::empty()).unwrap()
    };
    assert_eq!(browser.send(bearer("/api/jobs", KEY)).await.status, 200);
    assert_eq!(browser.send(bearer("/metrics", KEY)).await.status, 200);
    assert_eq!(browser.send(bearer("/api/jobs", "wrong")).await.status, 401);
    assert_eq!(browser.send(bearer("/jobs/1", KEY)).await.status, 401);

    // From another site the cookie would not go with a redirect.
    let request = Request::get(format!("/?key={KEY}")).header("sec-fetch-site", "cross-site");
    let page = browser.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("0;url=/\"") && page.headers.contains_key(SET_COOKIE));

    browser.cookie = cookie;
    let csrf = browser.csrf().await;
    let page = browser.post("/logout", &[("csrf", &csrf)]).await;
    assert_eq!(page.status, 303);
    assert!(
        page.headers[SET_COOKIE]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let browser = Browser::signed_in().await;
    for path in [
        "/",
        "/jobs/1",
        "/api/jobs",
        "/healthz",
        "/app.js",
        "/nothing",
        "/jobs/77",
    ] {
        let page = browser.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(page.headers["x-frame-options"], "DENY");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["referrer-policy"], "same-origin");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
    }
    assert_eq!(browser.get("/nothing").await.status, 404);
    assert_eq!(browser.get("/jobs/77").await.status, 404);
    assert_eq!(browser.get("/jobs/x").await.status, 404);
    assert_eq!(browser.get("/api/jobs/77").await.status, 404);
}

#[tokio::test]
async fn text_of_machines_is_only_text() {
    let browser = Browser::signed_in().await;
    for path in [
        "/",
        "/?state=copying",
        "/jobs/1",
        "/jobs/2",
        "/jobs/1/cancel",
        "/tokens",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        // The only script of a page is /app.js; nothing of the machine is an element or an attribute.
        assert_eq!(page.text.matches("<script").count(), 1, "{path}");
        assert!(
            page.text.contains("&lt;script&gt;") || path == "/tokens/3/revoke",
            "{path}"
        );
        assert!(
            !page.text.contains("\" onload=\"") && !page.text.contains("style=\""),
            "{path}"
        );
        assert!(
            !page.text.contains('\u{202e}') && !page.text.contains('\x1b'),
            "{path}"
        );
    }
    let log = browser.get("/jobs/1/log.txt").await;
    assert_eq!(log.text.lines().count(), 2500);
    assert!(!log.text.contains('\x1b'));
    assert!(
        log.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
}

#[tokio::test]
async fn the_list_shows_numbers_for_people() {
    let browser = Browser::signed_in().await;
    let text = browser.get("/").await.text;
    for word in [
        "10.0 GiB of 40.0 GiB",
        "50.0 MiB/s",
        "12 min",
        "25 %",
        "waiting for approval",
        "connected",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert!(text.contains("<noscript><meta http-equiv=\"refresh\""));
    let text = browser.get("/?state=copying").await.text;
    assert!(text.contains("/jobs/2\"") && !text.contains("/jobs/1\""));
    assert!(
        browser
            .get("/?state=done")
            .await
            .text
            .contains("No job is in this state")
    );
    assert_eq!(
        browser
            .get("/?page=99999999999999999999&state=x")
            .await
            .status,
        200
    );
    assert_eq!(
        browser.get(&format!("/?page={}", usize::MAX)).await.status,
        200
    );
}

#[tokio::test]
async fn a_job_shows_the_end_of_its_log_and_asks_for_approval() {
    let browser = Browser::signed_in().await;
    let text = browser.get("/jobs/1").await.text;
    assert!(
        text.contains("line 2500 ") && text.contains("line 2301 ") && !text.contains("line 2300 ")
    );
    assert!(text.contains("Approve this job?") && text.contains("name=\"key_secret\""));
    // Loading again would empty the form.
    assert!(!text.contains("http-equiv"));
    let text = browser.get("/jobs/2").await.text;
    assert!(!text.contains("Approve this job?") && text.contains("http-equiv"));
}

#[tokio::test]
async fn approving_takes_options_and_keys_and_repeats_no_key() {
    let browser = Browser::signed_in().await;
    let csrf = browser.csrf().await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("options", "-on 'web 1' -of qcow2"),
        ("key_id", "sda3"),
        ("key_secret", SECRET),
        ("key_id", ""),
        ("key_secret", ""),
        ("key_id", "all"),
        ("key_secret", " two "),
    ];
    let page = browser.post("/jobs/1/approve", &fields).await;
    assert_eq!(
        (page.status, &page.headers[LOCATION]),
        (303, &"/jobs/1".parse().unwrap())
    );
    assert_eq!(browser.fake.told(), ["approve 1"]);
    {
        let approvals = browser.fake.approvals.lock().unwrap();
        assert_eq!(approvals[0].options, ["-on", "web 1", "-of", "qcow2"]);
        let expected = [
            ("sda3".into(), SECRET.into()),
            ("all".into(), b" two ".to_vec()),
        ];
        assert_eq!(approvals[0].keys, expected);
    }

    for (options, id, secret, word) in [
        ("-i disk", "sda3", SECRET, "-i does not go here"),
        ("-on 'x", "sda3", SECRET, "closing"),
        ("-on ok", "", SECRET, "no volume"),
        ("-on ok", "sda3", "", "empty"),
    ] {
        let fields = [
            ("csrf", csrf.as_str()),
            ("options", options),
            ("key_id", id),
            ("key_secret", secret),
        ];
        let page = browser.post("/jobs/1/approve", &fields).await;
        assert_eq!(page.status, 409, "{options}");
        assert!(page.text.contains(word), "{options}");
        assert!(!page.text.contains(SECRET), "{options}");
        assert!(
            page.text.contains(&options.replace('\'', "&#39;")) || page.text.contains(options),
            "{options}"
        );
    }
    for path in ["/jobs/1", "/", "/api/jobs/1", "/jobs/1/log.txt"] {
        assert!(!browser.get(path).await.text.contains(SECRET), "{path}");
    }
    assert_eq!(browser.fake.told().len(), 1);
}

#[tokio::test]
async fn forms_need_their_token_and_their_site() {
    let browser = Browser::signed_in().await;
    let csrf = browser.csrf().await;
    let other = Browser::signed_in().await.csrf().await;
    let paths = [
        "/jobs/1/approve",
        "/jobs/1/cancel",
        "/jobs/1/retry",
        "/tokens",
        "/tokens/3/revoke",
        "/logout",
    ];
    for path in paths {
        for wrong in ["", "x", &other] {
            assert_eq!(
                browser.post(path, &[("csrf", wrong)]).await.status,
                403,
                "{path} {wrong}"
            );
        }
        let request = Request::post(path)
            .header("host", "127.0.0.1:7480")
            .header("origin", "http://evil.example")
            .header("content-type", "application/x-www-form-urlencoded");
        let body = form(&[("csrf", &csrf)]);
        let page = browser.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(page.status, 403, "{path}");
    }
    let long = "x".repeat(MAX_BODY + 1);
    assert_eq!(
        browser
            .post("/jobs/1/approve", &[("csrf", &csrf), ("options", &long)])
            .await
            .status,
        413
    );
    assert!(browser.fake.told().is_empty());
    assert!(
        browser
            .get("/jobs/1/cancel")
            .await
            .text
            .contains("Cancel job #1?")
    );
    for path in ["/jobs/1/cancel", "/jobs/1/retry", "/tokens/3/revoke"] {
        assert_eq!(
            browser.post(path, &[("csrf", &csrf)]).await.status,
            303,
            "{path}"
        );
    }
    assert_eq!(browser.fake.told(), ["cancel 1", "retry 1", "revoke 3"]);
}

#[tokio::test]
async fn a_join_string_is_shown_once() {
    let browser = Browser::signed_in().await;
    let csrf = browser.csrf().await;
    let fields = [
        ("csrf", csrf.as_str()),
        ("note", "rack 4"),
        ("ttl", "3600"),
        ("uses", "2"),
        ("servers", "192.0.2.1:7440, [2001:db8::1]:7440"),
        ("auto_approve", "yes"),
    ];
    let page = browser.post("/tokens", &fields).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("p2v.join=v2v1.") && page.text.contains(&Secret([2; 16]).code()));
    let told = browser.fake.told().remove(0);
    for word in [
        "192.0.2.1:7440\", \"[2001:db8::1]:7440\"]",
        "ttl_seconds: 3600",
        "uses: 2",
        "auto_approve: true",
        "rack 4",
    ] {
        assert!(told.contains(word), "{told}");
    }
    let text = browser.get("/tokens").await.text;
    assert!(!text.contains("v2v1.") && text.contains("1 of 2"));
    let page = browser
        .post("/tokens", &[("csrf", &csrf), ("uses", "0"), ("ttl", "1")])
        .await;
    assert_eq!(page.status, 409);
    assert!(page.text.contains("expected 1 to 10000"));
}

#[tokio::test]
async fn programs_read_json_and_metrics() {
    let browser = Browser::signed_in().await;
    let jobs: Vec<JobView> = serde_json::from_str(&browser.get("/api/jobs").await.text).unwrap();
    assert_eq!(jobs, browser.fake.jobs().unwrap());
    let job: JobDetail = serde_json::from_str(&browser.get("/api/jobs/2").await.text).unwrap();
    assert_eq!(job, detail(2));
    let lines = |text: String| serde_json::from_str::<Vec<LogLine>>(&text).unwrap();
    let some = lines(
        browser
            .get("/api/jobs/2/logs?after=2490&limit=5")
            .await
            .text,
    );
    assert_eq!((some.len(), some[0].number), (5, 2491));
    let many = lines(browser.get("/api/jobs/2/logs?limit=99999").await.text);
    assert_eq!(many.len(), 1000);
    let metrics = browser.get("/metrics").await.text;
    for line in [
        "# TYPE v2v_jobs gauge",
        "v2v_jobs{state=\"copying\"} 1",
        "v2v_jobs{state=\"failed\"} 0",
        "v2v_agents_connected 2",
        "v2v_received_bytes_total 19327352832",
        "v2v_receive_rate_bytes 104857600",
    ] {
        assert!(
            metrics.lines().any(|known| known == line),
            "{line}\n{metrics}"
        );
    }
    assert!(!metrics.contains("script"));
}

#[tokio::test]
async fn the_last_number_of_a_log_is_found() {
    for lines in [0, 1, 2, 3, 4, 5, 100, 1023, 1024, 1025] {
        let fake = Fake {
            lines,
            calls: Mutex::default(),
            approvals: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        let last = api::last_lines(&fake, JobId(1), 3).unwrap();
        let numbers: Vec<u64> = last.iter().map(|line| line.number).collect();
        let expected: Vec<u64> = (lines.saturating_sub(2).max(1)..=lines).collect();
        assert_eq!(numbers, expected, "{lines}");
    }
}

#[tokio::test]
async fn changes_come_as_events_and_end_with_the_server() {
    let browser = Browser::signed_in().await;
    let request = Request::get("/events").header(COOKIE, &browser.cookie);
    let response = browser
        .router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let mut next = async || {
        let wait = tokio::time::timeout(
            Duration::from_secs(10),
            futures_util::StreamExt::next(&mut body),
        );
        wait.await
            .expect("an event in time")
            .map(|piece| String::from_utf8(piece.unwrap().into()).unwrap())
    };
    assert_eq!(next().await.unwrap(), "event: change\ndata: 7\n\n");
    // Many changes become one event.
    for _ in 0..100 {
        browser.fake.changes.send_modify(|number| *number += 1);
    }
    assert_eq!(next().await.unwrap(), "event: change\ndata: 107\n\n");
    browser.stop.cancel();
    assert_eq!(next().await, None);
}

async fn listening(
    host: &str,
) -> (
    std::net::SocketAddr,
    CancelToken,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancelToken::new();
    let access = Access::new(KEY, identity()).unwrap();
    let served = tokio::spawn(serve(listener, Fake::new(), access, stop.clone()));
    (address, stop, served)
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn loopback_speaks_plain_http_and_stops() {
    let (address, stop, served) = listening("127.0.0.1").await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("ok\n"),
        "{text}"
    );
    // A connection that says nothing does not keep the server from stopping.
    let _silent = TcpStream::connect(address).await.unwrap();
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), served).await;
    ended.expect("the server stops").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn other_addresses_speak_tls_only() {
    let (address, stop, served) = listening("0.0.0.0").await;
    let address = format!("127.0.0.1:{}", address.port());
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(HEALTH).await.unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!String::from_utf8_lossy(&bytes).contains("ok"), "{bytes:?}");
    let shown = wire::tls::certificate_shown(&address).await.unwrap();
    let mut config = (*wire::tls::client_config(shown, None).unwrap()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("v2v").unwrap();
    let stream = TcpStream::connect(&address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    stop.cancel();
    served.await.unwrap().unwrap();
}
