//! The program of a Windows guest's first boot, run by Wine: scripts in order and once, through failures, resets and
//! reboots; as a service too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::firstboot::{WindowsArch, build};

/// For whatever Wine does, on two loaded cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// 3010 (a reboot is wanted) as Linux shows it.
const REBOOT: i32 = 3010 & 0xff;

/// Wine's own Windows in a folder of its own; its processes end with it.
struct Wine {
    wine: PathBuf,
    server: PathBuf,
    prefix: tempfile::TempDir,
}

impl Wine {
    /// Debian's wine64 without the wrapper, which asks for 32-bit packages.
    fn programs() -> Option<(PathBuf, PathBuf)> {
        [
            ("/usr/lib/wine/wine64", "/usr/lib/wine/wineserver64"),
            ("/usr/bin/wine", "/usr/bin/wineserver"),
        ]
        .into_iter()
        .find(|(wine, _)| Path::new(wine).exists())
        .map(|(wine, server)| (wine.into(), server.into()))
    }

    fn new(wine: PathBuf, server: PathBuf) -> Result<Self> {
        let prefix = tempfile::tempdir_in(testkit::target_dir())?;
        let this = Self {
            wine,
            server,
            prefix,
        };
        this.run(&["wineboot", "-i"])?;
        Ok(this)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("WINEPREFIX", self.prefix.path())
            .env("WINEDEBUG", "-all")
            .env("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn start(&self, args: &[&str]) -> Result<Child> {
        let mut command = self.command(&self.wine);
        command.args(args).spawn().context("starting wine")
    }

    fn run(&self, args: &[&str]) -> Result<ExitStatus> {
        finish(&mut self.start(args)?, args)
    }

    /// What it writes, without the carriage returns.
    fn output(&self, args: &[&str]) -> Result<(Option<i32>, String)> {
        let mut command = self.command(&self.wine);
        let output = command.args(args).stdout(Stdio::piped()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        Ok((output.status.code(), text))
    }

    /// All processes are gone at once, as by a reset.
    fn reset(&self) {
        for option in ["-k", "-w"] {
            let ended = self.command(&self.server).arg(option).status();
            assert!(ended.is_ok(), "{ended:?}");
        }
    }

    fn drive(&self) -> PathBuf {
        self.prefix.path().join("drive_c")
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        self.reset();
    }
}

fn finish(child: &mut Child, what: &[&str]) -> Result<ExitStatus> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    bail!("{what:?} did not end")
}

fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let since = Instant::now();
    while !done() {
        ensure!(since.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A folder C:\NAME with scripts. Each writes its name to `marks`, then does what its body says.
struct Scripts<'w> {
    wine: &'w Wine,
    exe: &'w str,
    name: &'static str,
}

impl<'w> Scripts<'w> {
    fn new(
        wine: &'w Wine,
        exe: &'w str,
        name: &'static str,
        scripts: &[(&str, &str)],
    ) -> Result<Self> {
        let this = Self { wine, exe, name };
        write_scripts(&this.dir(), &format!("C:\\{name}-marks"), scripts)?;
        Ok(this)
    }

    fn dir(&self) -> PathBuf {
        self.wine.drive().join(self.name)
    }

    fn args(&self) -> [String; 3] {
        let dir = format!("C:\\{}", self.name);
        [self.exe.to_owned(), "--run".to_owned(), dir]
    }

    fn start(&self) -> Result<Child> {
        let args = self.args();
        self.wine.start(&args.each_ref().map(String::as_str))
    }

    fn run(&self) -> Result<Option<i32>> {
        let args = self.args();
        let status = self.wine.run(&args.each_ref().map(String::as_str))?;
        Ok(status.code())
    }

    fn marks(&self) -> Vec<String> {
        let text = fs::read_to_string(self.wine.drive().join(format!("{}-marks", self.name)));
        text.unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir().join("v2v-firstboot.log")).unwrap_or_default()
    }

    /// Only the log is left.
    fn is_tidy(&self) -> Result<()> {
        let left = listing(&self.dir())?;
        ensure!(left == ["v2v-firstboot.log"], "{left:?}\n{}", self.log());
        Ok(())
    }
}

fn listing(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn write_scripts(dir: &Path, marks: &str, scripts: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(dir.join("scripts"))?;
    for (name, body) in scripts {
        let number = name.split('-').next().unwrap_or(name);
        let body = body.replace('\n', "\r\n");
        let text = format!("@echo off\r\necho {number}>>{marks}\r\n{body}\r\n");
        fs::write(dir.join("scripts").join(name), text)?;
    }
    Ok(())
}

const HANG: &str = ":again\ngoto again";

fn in_order_and_once(wine: &Wine, exe: &str) -> Result<()> {
    let scripts = Scripts::new(
        wine,
        exe,
        "order",
        &[
            ("300-last.bat", "echo in %CD% by %V2V_EXE%\nexit /b 0"),
            ("110-fails.bat", "exit /b 7"),
            (
                "120-hangs.bat",
                "rem v2v-timeout 1\necho hanging\n:again\ngoto again",
            ),
            ("100-first with blanks & more.bat", "echo said by the first"),
            ("210-wants.bat", "exit /b 3010"),
            ("220-goes on.again.bat", "exit /b 5"),
            ("230-no.batch", ""),
        ],
    )?;
    fs::write(scripts.dir().join("plan.txt"), "data")?;
    ensure!(scripts.run()? == Some(REBOOT), "{}", scripts.log());
    ensure!(
        scripts.marks() == ["100", "110", "120", "210", "220"],
        "{:?}\n{}",
        scripts.marks(),
        scripts.log()
    );
    ensure!(scripts.run()? == Some(0), "{}", scripts.log());
    ensure!(scripts.marks().last().is_some_and(|mark| mark == "300"));
    ensure!(scripts.marks().len() == 6, "{:?}", scripts.marks());
    let log = scripts.log();
    for expected in [
        "said by the first",
        "110-fails.bat: exit code 7",
        "120-hangs.bat: ended, its time is up",
        "210-wants.bat: exit code 3010 (wants a reboot)",
        "in C:\\order by ",
        "all scripts have run",
    ] {
        ensure!(log.contains(expected), "{expected}:\n{log}");
    }
    scripts.is_tidy()?;
    // Nothing is left to do.
    ensure!(scripts.run()? == Some(0));
    ensure!(scripts.marks().len() == 6);
    Ok(())
}

fn two_reboots_at_most(wine: &Wine, exe: &str) -> Result<()> {
    let wants = "exit /b 249";
    let scripts = Scripts::new(
        wine,
        exe,
        "reboots",
        &[
            ("100-a.bat", wants),
            ("200-b.bat", "exit /b 1641"),
            ("300-c.bat", wants),
            ("400-d.bat", ""),
        ],
    )?;
    ensure!(scripts.run()? == Some(REBOOT));
    ensure!(scripts.marks() == ["100"]);
    ensure!(scripts.run()? == Some(REBOOT));
    ensure!(scripts.run()? == Some(0), "{}", scripts.log());
    ensure!(scripts.marks() == ["100", "200", "300", "400"]);
    ensure!(
        scripts.log().contains("no further reboot: 2 were made"),
        "{}",
        scripts.log()
    );
    scripts.is_tidy()
}

fn a_reset_repeats_only_what_may_be(wine: &Wine, exe: &str) -> Result<()> {
    let scripts = Scripts::new(
        wine,
        exe,
        "reset",
        &[
            ("100-once.bat", HANG),
            (
                "200-twice.again.bat",
                "if exist C:\\go exit /b 0\n:again\ngoto again",
            ),
            ("300-never ends.again.bat", HANG),
            ("400-end.bat", ""),
        ],
    )?;
    let interrupt = |marks: &[&str]| {
        let mut child = scripts.start()?;
        until(
            &format!("never came to {marks:?}: {}", scripts.log()),
            || scripts.marks() == marks,
        )?;
        if marks.len() == 1 {
            let second = scripts.run()?;
            ensure!(second == Some(2), "a second one ran: {second:?}");
        }
        wine.reset();
        finish(&mut child, &["the program that was reset"])?;
        Ok(())
    };
    interrupt(&["100"])?;
    interrupt(&["100", "200"])?;
    fs::write(wine.drive().join("go"), "")?;
    let mut marks = vec!["100", "200", "200"];
    for _ in 0..3 {
        marks.push("300");
        interrupt(&marks)?;
    }
    ensure!(scripts.run()? == Some(0), "{}", scripts.log());
    marks.push("400");
    ensure!(scripts.marks() == marks, "{:?}", scripts.marks());
    ensure!(
        scripts.log().contains("given up after 3 attempts"),
        "{}",
        scripts.log()
    );
    scripts.is_tidy()
}

fn as_a_service(wine: &Wine, exe: &Path) -> Result<()> {
    // What asked for a reboot before left a second service manager, which no service answers.
    wine.reset();
    let windows = wine.drive().join("windows");
    let dir = windows.join("v2v/firstboot");
    let bodies = [("100-a.bat", "echo as a service"), ("200-b.bat", "")];
    write_scripts(&dir, "C:\\service-marks", &bodies)?;
    fs::copy(exe, dir.join("v2v-firstboot.exe"))?;
    let image = "C:\\windows\\v2v\\firstboot\\v2v-firstboot.exe service";
    let created = [
        "sc",
        "create",
        "v2v-firstboot",
        "binPath=",
        image,
        "start=",
        "auto",
    ];
    ensure!(wine.run(&created)?.success());
    let log = windows.join("temp/v2v-firstboot.log");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let mut last = None;
    until("the service did not come to its end", || {
        // Wine's service manager may not know it yet, and sc may ask how it does when it is gone.
        last = wine.output(&["sc", "start", "v2v-firstboot"]).ok();
        text().contains("all scripts have run; the service is removed")
    })
    .with_context(|| format!("sc start: {last:?}; the service's log: {}", text()))?;
    ensure!(text().contains("as a service"), "{}", text());
    let marks = fs::read_to_string(wine.drive().join("service-marks"))?;
    ensure!(
        marks.split_whitespace().eq(["100", "200"]),
        "{marks}\n{}",
        text()
    );
    until("the service stayed", || {
        let query = wine.output(&["sc", "query", "v2v-firstboot"]);
        query.is_ok_and(|(code, _)| code == Some(1060 & 0xff) || code == Some(1))
    })?;
    ensure!(listing(&dir)? == ["v2v-firstboot.exe"]);
    Ok(())
}

/// MAC of an adapter of this host.
fn any_mac() -> Option<String> {
    let adapters = fs::read_dir("/sys/class/net").ok()?;
    let macs = adapters.filter_map(|entry| {
        let path = entry.ok()?.path();
        let ethernet = fs::read_to_string(path.join("type")).ok()?.trim() == "1";
        let mac = fs::read_to_string(path.join("address")).ok()?;
        ethernet.then(|| mac.trim().to_owned())
    });
    macs.into_iter().find(|mac| mac != "00:00:00:00:00:00")
}

fn addresses_are_planned(wine: &Wine, exe: &str) -> Result<()> {
    let Some(mac) = any_mac() else {
        testkit::skip("this host has no network adapter to plan addresses for");
        return Ok(());
    };
    let print = |plan: &str| {
        fs::write(wine.drive().join("plan.txt"), plan)?;
        wine.output(&[exe, "network", "--print", "C:\\plan.txt"])
    };
    let (code, text) = print(&format!(
        "# by hand\r\n[adapter]\nmac={mac}\nname=Büro\naddress = 192.0.2.10/24\naddress=10.1.2.3/15\n\
         address=2001:db8::10/64\ngateway=192.0.2.1 256\ngateway=fe80::1\ndns=192.0.2.53\ndns=2001:db8::53\n\
         dns=192.0.2.54\nmetric=25\nold={{A}}\n[options]\nwait=1\n"
    ))?;
    ensure!(code == Some(0), "{code:?} {text}");
    for expected in [
        "source=static address=192.0.2.10 mask=255.255.255.0 gateway=192.0.2.1 gwmetric=256\n",
        "address=10.1.2.3 mask=255.254.0.0\n",
        "address=2001:db8::10/64 store=persistent\n",
        "prefix=::/0",
        "nexthop=fe80::1 store=persistent\n",
        "source=static address=192.0.2.53 validate=no\n",
        "address=192.0.2.54 index=2 validate=no\n",
        "interface ipv6 set dnsservers",
        " metric=25 store=persistent\n",
        "newname=\"Büro\"\n",
    ] {
        ensure!(text.contains(expected), "{expected}:\n{text}");
    }
    for wrong in [
        "address=192.0.2.1".to_owned(),
        "[adapter]\naddress=192.0.2.1/24".to_owned(),
        format!("[adapter]\nmac={mac}\naddress=192.0.2.1"),
        format!("[adapter]\nmac={mac}\naddress=192.0.2.256/24"),
        format!("[adapter]\nmac={mac}\naddress=1::2::3/64"),
        format!("[adapter]\nmac={mac}\naddress=1:2:3:4:5:6:7:8:9/64"),
        format!("[adapter]\nmac={mac}\nname=a\" b"),
        "[adapter]\nmac=00:11:22:33:44:5x".to_owned(),
        "[options]\nwait=9999999".to_owned(),
    ] {
        let (code, text) = print(&wrong)?;
        ensure!(
            code == Some(1) && !text.contains("netsh"),
            "{wrong}: {text}"
        );
    }
    let absent = "[adapter]\nmac=02:00:00:00:00:99\naddress=192.0.2.1/24\n[options]\nwait=1\n";
    let (code, text) = print(absent)?;
    ensure!(code == Some(1) && text.contains("there is none"), "{text}");
    Ok(())
}

#[test]
fn the_program_does_its_work_under_wine() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    if !testkit::require_tool(WindowsArch::Amd64.compiler()) {
        return Ok(());
    }
    let Some((wine, server)) = Wine::programs() else {
        testkit::skip("no wine (Debian package: wine64)");
        return Ok(());
    };
    let dir = tempfile::tempdir_in(testkit::target_dir())?;
    let exe = build(WindowsArch::Amd64, dir.path())?;
    let wine = Wine::new(wine, server)?;
    let path = format!("Z:{}", exe.display().to_string().replace('/', "\\"));
    in_order_and_once(&wine, &path)?;
    two_reboots_at_most(&wine, &path)?;
    addresses_are_planned(&wine, &path)?;
    as_a_service(&wine, &exe)?;
    a_reset_repeats_only_what_may_be(&wine, &path)
}

#[test]
fn the_program_is_reproducible_and_needs_no_more_than_xp_has() -> Result<()> {
    for arch in WindowsArch::ALL {
        if !testkit::require_tool(arch.compiler()) {
            return Ok(());
        }
        let dir = tempfile::tempdir_in(testkit::target_dir())?;
        let first = fs::read(build(arch, &dir.path().join("a"))?)?;
        let second = fs::read(build(arch, &dir.path().join("b/c"))?)?;
        ensure!(first == second, "{arch:?}: not the same bytes");
        // COFF header behind the offset at 0x3c (PE format, "COFF File Header"): the time stamp, and in the optional
        // header the subsystem version.
        let at = |offset: usize| u32::from_le_bytes(first[offset..offset + 4].try_into().unwrap());
        let pe = at(0x3c) as usize;
        ensure!(at(pe + 8) == 0, "{arch:?}: a time stamp");
        ensure!(at(pe + 24 + 48) == 5 | 1 << 16, "{arch:?}: not for 5.1");
        let objdump = arch.compiler().replace("gcc", "objdump");
        let exe = dir.path().join("a").join(arch.file());
        let output = Command::new(objdump).arg("-p").arg(exe).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut libraries: Vec<String> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("DLL Name: "))
            .map(str::to_ascii_lowercase)
            .collect();
        libraries.sort();
        ensure!(
            libraries == ["advapi32.dll", "iphlpapi.dll", "kernel32.dll"],
            "{libraries:?}"
        );
    }
    Ok(())
}
