//! Headless Chromium by the `WebDriver` protocol (W3C, `WebDriver`), which chromedriver speaks as JSON over HTTP.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Background;

/// A loaded host takes its time to start a browser.
const PATIENCE: Duration = Duration::from_secs(90);
/// chromedriver gives a browser 60 s to open its port, however busy the host is; the next start finds its files in memory.
const STARTS: usize = 3;
/// A root user's Chromium has no sandbox; the pages are our own. Nothing is asked of the network at the start: where it is closed,
/// the browser waits for answers that do not come.
const ARGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-quic",
    "--disable-breakpad",
];
const POLL: Duration = Duration::from_millis(200);
/// The key under which an element's reference stands (`WebDriver`, section 12, "web element identifier").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How large the window is, and whether pages may run scripts.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// JavaScript is on.
    pub scripts: bool,
}

/// A desktop's window.
pub const DESKTOP: Window = Window {
    width: 1280,
    height: 900,
    scripts: true,
};
/// A phone's.
pub const PHONE: Window = Window {
    width: 390,
    height: 844,
    scripts: true,
};

/// A browser with one window; ended when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _process: Background,
    _profile: TempDir,
}

impl Browser {
    /// Starts chromedriver and, through it, Chromium.
    pub fn start(window: Window) -> Result<Self> {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--allowed-ips=127.0.0.1"]);
        let mut process = Background::start(command).context("package chromium-driver")?;
        let port = process
            .wait_line("ChromeDriver was started successfully on port ", PATIENCE)?
            .trim_end_matches('.')
            .parse::<u16>()
            .context("chromedriver's port")?;
        let driver = SocketAddr::from(([127, 0, 0, 1], port));
        let (session, profile) = new_session(driver, window)?;
        let browser = Self {
            driver,
            session,
            _process: process,
            _profile: profile,
        };
        // Headless windows do not go below some width by the option alone.
        let metrics = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": window.width, "height": window.height, "deviceScaleFactor": 1, "mobile": false}});
        browser.post("goog/cdp/execute", &metrics)?;
        let scripts = json!({"cmd": "Emulation.setScriptExecutionDisabled",
            "params": {"value": !window.scripts}});
        browser.post("goog/cdp/execute", &scripts)?;
        Ok(browser)
    }

    /// Opens a page.
    pub fn open(&self, url: &str) -> Result<()> {
        self.post("url", &json!({"url": url})).map(drop)
    }

    /// The page's address.
    pub fn url(&self) -> Result<String> {
        let url = self.get("url")?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// The page's title.
    pub fn title(&self) -> Result<String> {
        let title = self.get("title")?;
        Ok(title.as_str().unwrap_or_default().to_owned())
    }

    /// Text of the page as a person sees it.
    pub fn text(&self) -> Result<String> {
        let body = self.find("css selector", "body")?;
        let text = self.get(&format!("element/{body}/text"))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page shows one of `texts`, in upper or lower case; returns which. With `reload`, it is loaded anew each time, as one
    /// without scripts needs it.
    pub fn wait_text(&self, texts: &[&str], reload: bool, timeout: Duration) -> Result<usize> {
        let deadline = Instant::now() + timeout;
        loop {
            // A page that is just replacing itself has no text for a moment.
            let shown = self.text().unwrap_or_default();
            let lower = shown.to_lowercase();
            let is_shown = |text: &&str| lower.contains(&text.to_lowercase());
            if let Some(found) = texts.iter().position(is_shown) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                bail!("{texts:?} not on the page within {timeout:?}; it shows:\n{shown}");
            }
            thread::sleep(POLL);
            if reload {
                self.post("refresh", &json!({}))?;
            }
        }
    }

    /// Clicks what shows this text: a link, a button, or an input of this value.
    pub fn click(&self, text: &str) -> Result<()> {
        let path = format!(
            "//a[contains(normalize-space(.),'{text}')] | //button[contains(normalize-space(.),'{text}')] \
             | //input[@value='{text}'] | //summary[contains(normalize-space(.),'{text}')]"
        );
        let element = self.find("xpath", &path)?;
        self.post(&format!("element/{element}/click"), &json!({}))?;
        Ok(())
    }

    /// Types into the field that the CSS selector finds.
    pub fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.find("css selector", selector)?;
        self.post(&format!("element/{element}/value"), &json!({"text": text}))
            .map(drop)
    }

    /// Says yes to the question in front of the page; false where there is none.
    pub fn accept_question(&self) -> bool {
        self.post("alert/accept", &json!({})).is_ok()
    }

    /// Runs a function body in the page and returns its value.
    pub fn script(&self, body: &str) -> Result<Value> {
        self.post("execute/sync", &json!({"script": body, "args": []}))
    }

    /// Whether the page is wider than its window: then a phone's user has to scroll sideways.
    pub fn overflows(&self) -> Result<bool> {
        let wide =
            self.script("return document.documentElement.scrollWidth > window.innerWidth;")?;
        Ok(wide == Value::Bool(true))
    }

    /// A picture of the window as a PNG.
    pub fn screenshot(&self, to: &Path) -> Result<()> {
        let shot = self.get("screenshot")?;
        let shot = shot.as_str().context("chromedriver sent no picture")?;
        let png = BASE64
            .decode(shot.as_bytes())
            .context("decoding the picture")?;
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        fs::write(to, png).with_context(|| format!("writing {}", to.display()))
    }

    fn find(&self, using: &str, value: &str) -> Result<String> {
        let found = self.post("element", &json!({"using": using, "value": value}))?;
        let id = found[ELEMENT].as_str();
        Ok(id.context("chromedriver sent no element")?.to_owned())
    }

    fn get(&self, what: &str) -> Result<Value> {
        let path = format!("/session/{}/{what}", self.session);
        call(self.driver, "GET", &path, None)
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value> {
        let path = format!("/session/{}/{what}", self.session);
        call(self.driver, "POST", &path, Some(body))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session; chromedriver is killed after that.
        let path = format!("/session/{}", self.session);
        let _ = call(self.driver, "DELETE", &path, None);
    }
}

/// Starts a browser: the session's name and the folder in which the browser keeps its own files.
fn new_session(driver: SocketAddr, window: Window) -> Result<(String, TempDir)> {
    let mut failed = None;
    for _ in 0..STARTS {
        // The browser of a start that failed may still be at its folder.
        let profile = TempDir::new().context("making a profile folder")?;
        let mut args: Vec<String> = ARGS.iter().map(ToString::to_string).collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        args.push(format!("--window-size={},{}", window.width, window.height));
        // The page's certificate is the server's own.
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args}, "acceptInsecureCerts": true}}});
        match call(driver, "POST", "/session", Some(&wanted)) {
            Ok(made) => {
                let session = made["sessionId"].as_str().context("no session")?;
                return Ok((session.to_owned(), profile));
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.context("no start was tried")?)
}

/// One command: the answer's `value`, or its error.
fn call(driver: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {driver}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(driver, request.as_bytes())
        .with_context(|| format!("{method} {path} to chromedriver"))?;
    let json = answer.get(..).and_then(http_body).unwrap_or_default();
    let mut answer: Value = serde_json::from_slice(json)
        .with_context(|| format!("chromedriver's answer to {method} {path}"))?;
    let value = answer["value"].take();
    match value.get("error") {
        Some(error) if value.get("message").is_some() => {
            let message = value["message"].as_str().unwrap_or_default();
            let first = message.lines().next().unwrap_or_default();
            bail!("{method} {path} {body}: {error}: {first}")
        }
        _ => Ok(value),
    }
}

/// Sends a request and reads the answer to the end of its body: chromedriver keeps connections open.
fn exchange(driver: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(driver).context("connecting")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("setting a time limit")?;
    stream.write_all(request).context("sending")?;
    let mut answer = Vec::new();
    let mut block = vec![0; 64 << 10];
    loop {
        let read = match stream.read(&mut block) {
            // A time limit on a socket keeps the kernel from going on by itself after a signal.
            Err(stopped) if stopped.kind() == ErrorKind::Interrupted => continue,
            read => read.context("reading")?,
        };
        answer.extend_from_slice(block.get(..read).unwrap_or_default());
        let is_whole =
            http_body(&answer).is_some_and(|body| Some(body.len()) >= http_length(&answer));
        if read == 0 || is_whole {
            return Ok(answer);
        }
    }
}

fn http_body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    answer.get(end + 4..)
}

fn http_length(answer: &[u8]) -> Option<usize> {
    let head = answer.split(|&byte| byte == b'{').next()?;
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<!DOCTYPE html><title>rig</title><meta name=viewport content='width=device-width'>\
        <p id=p>waiting</p><button onclick=\"p.textContent='approved'\">Approve</button>\
        <p id=s>plain</p><script>s.textContent=%27scripted%27</script><input name=i>";

    #[test]
    fn a_page_is_opened_clicked_and_pictured() {
        if !crate::require_tool("chromedriver") {
            return;
        }
        let url = format!(
            "data:text/html,{}",
            PAGE.replace('\'', "%27").replace('#', "%23")
        );
        let browser = Browser::start(PHONE).unwrap();
        browser.open(&url).unwrap();
        assert_eq!(browser.title().unwrap(), "rig");
        browser.fill("input[name=i]", "web").unwrap();
        let width = browser.script("return window.innerWidth;").unwrap();
        assert_eq!(width.as_u64(), Some(u64::from(PHONE.width)));
        assert!(!browser.overflows().unwrap());
        assert!(browser.text().unwrap().contains("scripted"));
        browser.click("Approve").unwrap();
        browser.wait_text(&["approved"], false, PATIENCE).unwrap();
        assert!(browser.click("Cancel").is_err());
        let shot = crate::target_dir().join("screenshots/rig-page.png");
        browser.screenshot(&shot).unwrap();
        assert!(fs::read(shot).unwrap().starts_with(b"\x89PNG"));
        drop(browser);
        let still = Window {
            scripts: false,
            ..DESKTOP
        };
        let browser = Browser::start(still).unwrap();
        browser.open(&url).unwrap();
        browser
            .wait_text(&["plain"], false, Duration::from_secs(10))
            .unwrap();
    }
}
