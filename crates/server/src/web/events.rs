//! `/events`: tells a browser that something changed, at most once a second. What changed, it fetches itself.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, watch};
use types::CancelToken;

use super::listen::until;
use super::{App, Refusal};

/// Between two messages.
const PACE: Duration = Duration::from_secs(1);
/// A comment after so long a silence keeps proxies from closing.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After so long the browser connects again, which checks its cookie again.
const LIFE: Duration = Duration::from_secs(600);

struct Watcher {
    changes: watch::Receiver<u64>,
    first: bool,
    until: tokio::time::Instant,
    stop: CancelToken,
    _permit: OwnedSemaphorePermit,
}

/// GET /events. The first message comes at once.
pub(super) async fn stream(State(app): State<App>) -> Response {
    let Ok(permit) = app.streams.try_acquire_owned() else {
        return Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many browsers are watching",
        )
        .into_response();
    };
    let watcher = Watcher {
        changes: app.control.changes(),
        first: true,
        until: tokio::time::Instant::now() + LIFE,
        stop: app.stop,
        _permit: permit,
    };
    let messages = futures_util::stream::unfold(watcher, |mut watcher| async move {
        if !watcher.first && !watcher.wait().await {
            return None;
        }
        watcher.first = false;
        let number = *watcher.changes.borrow_and_update();
        let event = Event::default().event("change").data(number.to_string());
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Sse::new(messages)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

impl Watcher {
    /// False when there will be no more.
    async fn wait(&mut self) -> bool {
        let change = async {
            tokio::time::sleep(PACE).await;
            self.changes.changed().await.is_ok()
        };
        tokio::select! {
            changed = change => changed,
            () = tokio::time::sleep_until(self.until) => false,
            () = until(self.stop.clone()) => false,
        }
    }
}
