//! What one console's person has done so far, and what a key does to it.
//!
//! ```text
//! keys ──> Model ──> Effect::Send(Command) ──> controller ──> View ──> Model::look ──> every console's screen
//! ```
//! A changed field is sent at once as a whole [`Config`]; until the controller's view shows it, the model goes by its
//! own copy, so that a script that types faster than the controller answers loses nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::form::{self, Focus, Id, Row};
use super::keys::Key;
use super::tabs::{self, Tab, network};
use crate::app::{Command, Phase, View};
use crate::config::Config;

/// How long the own copy of the configuration goes before another one in the view.
const PENDING: Duration = Duration::from_secs(2);
/// Longest text of a field: a join string and some room.
pub(crate) const MAX_TEXT: usize = 1024;

/// What the loop of the console has to do.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// Send this to the controller.
    Send(Command),
    /// Run a shell here.
    Shell,
    /// Draw everything anew.
    Redraw,
    /// The terminal told its size: columns and rows.
    Size(u16, u16),
}

/// A question that must be answered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Cancel,
    Poweroff,
    Reboot,
}

impl Ask {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Cancel => "Give the job up? What was copied is kept for another try.",
            Self::Poweroff => "Power this machine off?",
            Self::Reboot => "Reboot this machine?",
        }
    }

    fn command(self) -> Command {
        match self {
            Self::Cancel => Command::Cancel,
            Self::Poweroff => Command::Poweroff,
            Self::Reboot => Command::Reboot,
        }
    }
}

/// State of one console.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) tab: Tab,
    focus: BTreeMap<Tab, Id>,
    cursor: usize,
    /// Fields whose text is not in the configuration (yet): being typed, or refused.
    texts: BTreeMap<Id, String>,
    /// What is sent next.
    pub(crate) config: Config,
    seen: Option<Config>,
    pending: Option<(Config, Instant)>,
    pub(crate) network: network::Draft,
    pub(crate) ask: Option<Ask>,
    pub(crate) ask_yes: bool,
    /// What is wrong with the last entry, or what was done.
    pub(crate) message: Option<String>,
    /// The person said that the fingerprint shown is another one.
    pub(crate) refused: Option<wire::join::Fingerprint>,
    phase: Option<Phase>,
    /// Lines of the log below the window.
    pub(crate) log_back: usize,
    escaped: bool,
    pub(crate) effects: Vec<Effect>,
}

impl Model {
    /// Takes a new view in.
    pub(crate) fn look(&mut self, view: &View) {
        if self.seen.as_ref() != Some(&view.config) {
            self.seen = Some(view.config.clone());
            let ours = match &self.pending {
                Some((sent, since)) => *sent == view.config || since.elapsed() > PENDING,
                None => true,
            };
            if ours {
                self.pending = None;
                self.config = view.config.clone();
            }
        } else if let Some((_, since)) = &self.pending
            && since.elapsed() > PENDING
        {
            self.pending = None;
            self.config = view.config.clone();
        }
        self.network.look(view, &self.config);
        if self.phase != Some(view.phase) {
            match view.phase {
                Phase::Running | Phase::Ended => self.tab = Tab::Job,
                Phase::Setup if self.phase == Some(Phase::Running) => self.tab = Tab::Start,
                Phase::Detecting | Phase::Setup => {}
            }
            self.phase = Some(view.phase);
            self.ask = None;
            self.message = None;
        }
    }

    /// Rows of the tab that is shown.
    pub(crate) fn rows(&self, view: &View) -> Vec<Row> {
        tabs::rows(self.tab, self, view)
    }

    /// The focus among these rows: where it was, else the first.
    pub(crate) fn focus(&self, rows: &[Row]) -> Focus {
        let ids = form::ids(rows);
        let kept = self.focus.get(&self.tab).filter(|id| ids.contains(id));
        Focus {
            id: kept.or(ids.first()).copied(),
            cursor: self.cursor,
        }
    }

    /// Text of a field: what is typed, else what `value` says.
    pub(crate) fn text(&self, id: Id, value: impl Into<String>) -> String {
        self.texts.get(&id).cloned().unwrap_or_else(|| value.into())
    }

    /// Takes one key and says what is to be done.
    pub(crate) fn key(&mut self, key: Key, view: &View) -> Vec<Effect> {
        let key = self.unescape(key);
        match key {
            Key::Position(rows, columns) => self.effects.push(Effect::Size(columns, rows)),
            Key::Ctrl('l') => self.effects.push(Effect::Redraw),
            Key::F(10) => self.effects.push(Effect::Shell),
            _ if self.ask.is_some() => self.answer(key),
            Key::F(5) => {
                self.leave(view);
                self.send(Command::Rescan);
                self.message = Some("Looking for disks and interfaces again.".into());
            }
            Key::F(number) => {
                if let Some(tab) = Tab::of_key(number) {
                    self.go(tab, view);
                }
            }
            _ if self.tab == Tab::Log => self.log_key(key, view),
            _ => self.form_key(key, view),
        }
        std::mem::take(&mut self.effects)
    }

    /// Esc or Alt with a digit is a function key: not every terminal has them.
    fn unescape(&mut self, key: Key) -> Key {
        let escaped = std::mem::replace(&mut self.escaped, key == Key::Esc);
        match key {
            Key::Alt(digit) => function(digit).unwrap_or(key),
            Key::Char(digit) if escaped => function(digit).unwrap_or(key),
            _ => key,
        }
    }

    fn answer(&mut self, key: Key) {
        let yes = match key {
            Key::Char('y' | 'Y') => true,
            Key::Char('n' | 'N') | Key::Esc => false,
            Key::Enter | Key::Char(' ') => self.ask_yes,
            Key::Left | Key::Right | Key::Tab | Key::BackTab | Key::Up | Key::Down => {
                self.ask_yes = !self.ask_yes;
                return;
            }
            _ => return,
        };
        if let Some(ask) = self.ask.take()
            && yes
        {
            self.send(ask.command());
        }
    }

    fn log_key(&mut self, key: Key, view: &View) {
        const PAGE: usize = 10;
        let most = view.log.len();
        match key {
            Key::Up => self.log_back = (self.log_back + 1).min(most),
            Key::Down => self.log_back = self.log_back.saturating_sub(1),
            Key::PageUp => self.log_back = (self.log_back + PAGE).min(most),
            Key::PageDown => self.log_back = self.log_back.saturating_sub(PAGE),
            Key::Home => self.log_back = most,
            Key::End => self.log_back = 0,
            Key::Tab => self.go(self.tab.next(), view),
            Key::BackTab => self.go(self.tab.before(), view),
            Key::Enter | Key::Esc => self.go(self.home(view), view),
            _ => {}
        }
    }

    fn home(&self, view: &View) -> Tab {
        match view.phase {
            Phase::Detecting | Phase::Setup => Tab::Start,
            Phase::Running | Phase::Ended => Tab::Job,
        }
    }

    fn form_key(&mut self, key: Key, view: &View) {
        let rows = self.rows(view);
        let Some(id) = self.focus(&rows).id else {
            match key {
                Key::Tab => self.go(self.tab.next(), view),
                Key::BackTab => self.go(self.tab.before(), view),
                _ => {}
            }
            return;
        };
        let row = rows
            .iter()
            .find(|row| form::ids(&[(*row).clone()]).contains(&id));
        let field = match row {
            Some(Row::Text { value, .. }) => Some(value.clone()),
            _ => None,
        };
        match (key, field) {
            (Key::Tab, _) => self.step(1, true, view),
            (Key::BackTab, _) => self.step(-1, true, view),
            (Key::Down, _) => self.step(1, false, view),
            (Key::Up, _) => self.step(-1, false, view),
            (Key::PageDown, _) => self.step(6, false, view),
            (Key::PageUp, _) => self.step(-6, false, view),
            (Key::Enter, Some(_)) if self.leave(view) => self.step(1, false, view),
            (key, Some(text)) => self.edit(id, text, key),
            (Key::Left, None) => self.turn(id, row, -1, view),
            (Key::Right, None) => self.turn(id, row, 1, view),
            (Key::Enter | Key::Char(' '), None) => tabs::press(self, id, view),
            _ => {}
        }
    }

    fn turn(&mut self, id: Id, row: Option<&Row>, by: isize, view: &View) {
        if matches!(row, Some(Row::Choice { .. })) {
            tabs::turn(self, id, by, view);
        } else {
            self.step(by, false, view);
        }
    }

    fn edit(&mut self, id: Id, text: String, key: Key) {
        // A secret that is kept as a summary is typed anew, not edited.
        let summary = !self.texts.contains_key(&id) && id.is_summary(&self.config);
        let mut chars: Vec<char> = if summary {
            Vec::new()
        } else {
            text.chars().collect()
        };
        let at = self.cursor.min(chars.len());
        let mut cursor = at;
        match key {
            Key::Char(c) if chars.len() < MAX_TEXT => {
                chars.insert(at, c);
                cursor += 1;
            }
            Key::Backspace if at > 0 => {
                chars.remove(at - 1);
                cursor -= 1;
            }
            Key::Backspace if summary => {}
            Key::Delete if at < chars.len() => {
                chars.remove(at);
            }
            Key::Ctrl('u') => {
                chars.drain(..at);
                cursor = 0;
            }
            Key::Left => return self.cursor = at.saturating_sub(1),
            Key::Right => return self.cursor = (at + 1).min(chars.len()),
            Key::Home | Key::Ctrl('a') => return self.cursor = 0,
            Key::End | Key::Ctrl('e') => return self.cursor = chars.len(),
            Key::Esc => {
                self.texts.remove(&id);
                self.message = None;
                return self.cursor = usize::MAX;
            }
            _ => return,
        }
        self.cursor = cursor;
        self.texts.insert(id, chars.into_iter().collect());
        self.message = None;
    }

    /// The focused field is left: what was typed is taken. False when it is refused.
    pub(crate) fn leave(&mut self, view: &View) -> bool {
        let rows = self.rows(view);
        let Some(id) = self.focus(&rows).id else {
            return true;
        };
        let Some(text) = self.texts.get(&id).cloned() else {
            return true;
        };
        match tabs::take(self, id, text.trim(), view) {
            Ok(()) => {
                self.texts.remove(&id);
                true
            }
            Err(message) => {
                self.message = Some(message);
                false
            }
        }
    }

    /// Forgets what was typed into a field that something else has set.
    pub(crate) fn forget(&mut self, id: Id) {
        self.texts.remove(&id);
    }

    /// Whether this field holds something that was typed and refused.
    pub(crate) fn is_refused(&self, id: Id) -> bool {
        self.texts.contains_key(&id)
    }

    /// Whether any field does.
    pub(crate) fn refused_texts(&self) -> bool {
        !self.texts.is_empty()
    }

    fn step(&mut self, by: isize, across: bool, view: &View) {
        self.message = None;
        self.leave(view);
        let rows = self.rows(view);
        let ids = form::ids(&rows);
        let focus = self.focus(&rows).id;
        let at = ids.iter().position(|id| Some(*id) == focus).unwrap_or(0);
        let last = ids.len().saturating_sub(1);
        match at.checked_add_signed(by) {
            Some(next) if next <= last => self.focus_on(ids.get(next).copied()),
            Some(_) if across => {
                self.go(self.tab.next(), view);
                let first = form::ids(&self.rows(view)).first().copied();
                self.focus_on(first);
            }
            None if across => {
                self.go(self.tab.before(), view);
                let last = form::ids(&self.rows(view)).last().copied();
                self.focus_on(last);
            }
            Some(_) => self.focus_on(ids.last().copied()),
            None => self.focus_on(ids.first().copied()),
        }
    }

    fn focus_on(&mut self, id: Option<Id>) {
        if let Some(id) = id {
            self.focus.insert(self.tab, id);
        }
        self.cursor = usize::MAX;
    }

    pub(crate) fn go(&mut self, tab: Tab, view: &View) {
        let taken = self.leave(view);
        if taken && tab != self.tab {
            self.message = None;
        }
        self.tab = tab;
        // A script that comes here finds the first field.
        self.focus.remove(&tab);
        self.cursor = usize::MAX;
        self.log_back = 0;
    }

    /// Changes the configuration and sends it.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.config.clone();
        change(&mut config);
        if config == self.config {
            return;
        }
        self.config = config.clone();
        self.pending = Some((config.clone(), Instant::now()));
        self.send(Command::Configure(Box::new(config)));
    }

    pub(crate) fn send(&mut self, command: Command) {
        self.effects.push(Effect::Send(command));
    }

    pub(crate) fn question(&mut self, ask: Ask) {
        self.ask = Some(ask);
        self.ask_yes = false;
    }
}

impl Id {
    /// The field shows a summary of a secret, which cannot be edited.
    fn is_summary(self, config: &Config) -> bool {
        match self {
            Self::Server => config.join.is_some() && config.server.is_none(),
            Self::Code => config.code.is_some(),
            _ => false,
        }
    }
}

fn function(digit: char) -> Option<Key> {
    let number = u8::try_from(digit.to_digit(10)?).ok()?;
    Some(Key::F(if number == 0 { 10 } else { number }))
}
