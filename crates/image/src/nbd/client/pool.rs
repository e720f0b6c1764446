//! The connections to one export: taken for a request, given back after it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::ClientOptions;
use super::connection::{Connection, Failure};
use super::negotiate::{Session, violation};
use super::stream::Deadline;
use super::uri::Uri;
use crate::{Error, ErrorKind, Result};

/// Connections that are made on demand, up to a number.
pub(super) struct Pool {
    uri: Uri,
    options: ClientOptions,
    session: Session,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// Connections that exist or are being made.
    open: usize,
    /// Why the server is not talked to any more.
    dead: Option<(ErrorKind, String)>,
}

impl Pool {
    /// Makes the first connection.
    pub(super) fn connect(uri: &Uri, options: &ClientOptions) -> Result<(Self, Session)> {
        let (first, session) = Connection::open(uri, Deadline::after(options.timeout))?;
        let this = Self {
            uri: uri.clone(),
            options: *options,
            session,
            state: Mutex::new(State {
                idle: vec![first],
                open: 1,
                dead: None,
            }),
            returned: Condvar::new(),
        };
        Ok((this, session))
    }

    /// Does something with a connection of its own.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection, &Deadline) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut connection = self.take()?;
        let result = work(&mut connection, &Deadline::after(self.options.timeout));
        let mut state = self.lock();
        let result = match result {
            Ok(value) => {
                state.idle.push(connection);
                Ok(value)
            }
            Err(Failure::Answered(error)) => {
                state.idle.push(connection);
                Err(error)
            }
            Err(Failure::Broken(error)) => {
                state.open -= 1;
                Err(state.die(error))
            }
        };
        drop(state);
        self.returned.notify_all();
        result
    }

    /// An idle connection, or a new one where there may be more, or the next that is given back.
    fn take(&self) -> Result<Connection> {
        let most = if self.session.multi_conn {
            self.options.connections.max(1)
        } else {
            1
        };
        let mut state = self.lock();
        loop {
            if let Some((kind, why)) = &state.dead {
                return Err(Error::new(
                    *kind,
                    format!("the connection to the NBD server broke before: {why}"),
                ));
            }
            if let Some(connection) = state.idle.pop() {
                return Ok(connection);
            }
            if state.open < most {
                state.open += 1;
                drop(state);
                return self.another();
            }
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One more connection, which must show the same export.
    fn another(&self) -> Result<Connection> {
        let opened = Connection::open(&self.uri, Deadline::after(self.options.timeout));
        let error = match opened {
            Ok((connection, session)) if session == self.session => return Ok(connection),
            Ok((_, session)) => violation(format!(
                "expected every connection to show the same export, found {} bytes and {}",
                self.session.size, session.size
            )),
            Err(error) => error,
        };
        let mut state = self.lock();
        state.open -= 1;
        let error = state.die(error);
        drop(state);
        self.returned.notify_all();
        Err(error)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers the first failure; nobody connects again.
    fn die(&mut self, error: Error) -> Error {
        self.dead.get_or_insert_with(|| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let why = match cause {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            (error.kind(), why)
        });
        error
    }
}
