use super::text::{Lines, RawLine, decode};
use super::*;
use crate::windows::drivers::fixture;

const WIN7: Platform = platform("x86", 6, 1, 7601, false);
const WIN10: Platform = platform("amd64", 10, 0, 19045, false);
const SERVER_2016: Platform = platform("amd64", 10, 0, 14393, true);

const fn platform(
    arch: &'static str,
    major: u32,
    minor: u32,
    build: u32,
    server: bool,
) -> Platform {
    Platform {
        arch,
        major,
        minor,
        build,
        server,
    }
}

fn inf(text: &str) -> Inf {
    Inf::parse(text.as_bytes()).unwrap()
}

fn entry(line: &str) -> (Option<String>, Vec<String>) {
    let mut lines = Lines::new(line);
    let Some(Ok(RawLine::Entry(key, fields))) = lines.next() else {
        panic!("{line}");
    };
    assert!(lines.next().is_none(), "{line}");
    (key, fields)
}

#[test]
fn lines_are_split_as_setupapi_does() {
    for (line, key, fields) in [
        ("a = b, c", Some("a"), &["b", "c"][..]),
        ("  a  b  =  c  d  ", Some("a  b"), &["c  d"]),
        ("viostor.sys = 1,,", Some("viostor.sys"), &["1", "", ""]),
        ("viostor.sys,,,2", None, &["viostor.sys", "", "", "2"]),
        ("a = b = c", Some("a"), &["b = c"]),
        ("HKR,,x,0,\"a;b\" ; c", None, &["HKR", "", "x", "0", "a;b"]),
        ("a = \" b \" ", Some("a"), &[" b "]),
        ("a = \"say \"\"x\"\"\"", Some("a"), &["say \"x\""]),
        ("a = \"unclosed, b ", Some("a"), &["unclosed, b "]),
        ("a = x\"y,z\"w", Some("a"), &["xy,zw"]),
        (
            "1 = %DiskId1%,,,\"\"",
            Some("1"),
            &["%DiskId1%", "", "", ""],
        ),
        ("HKR,a, \\\r\n   \"b,c\"", None, &["HKR", "a", "b,c"]),
        ("a = b, \\ ; more\n ; only\n", Some("a"), &["b"]),
        ("HKR, a\\b, \"c\\\"", None, &["HKR", "a\\b", "c\\"]),
        ("\"a=b\" = c", Some("a=b"), &["c"]),
        ("a =", Some("a"), &[]),
        ("a = b\\", Some("a"), &["b"]),
    ] {
        let fields: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
        let fields = if line.starts_with("a = b, \\") {
            vec!["b".to_owned(), String::new()]
        } else {
            fields
        };
        assert_eq!(entry(line), (key.map(str::to_owned), fields), "{line}");
    }
}

#[test]
fn sections_of_one_name_are_one_whatever_their_case() {
    let inf = inf("[Files] ; first\na=1\n[Other]\nb=2\n[ FILES ]\r\nc=3\r\r[\"x]y\"]\nd=4\n");
    assert_eq!(inf.section("files").unwrap().lines.len(), 2);
    assert_eq!(inf.section("Other").unwrap().lines.len(), 1);
    assert_eq!(inf.section("X]Y").unwrap().lines.len(), 1);
}

#[test]
fn a_file_that_setupapi_refuses_is_refused() {
    assert!(Inf::parse(b"a = b\n[Version]\n").is_err());
    assert!(Inf::parse(b"[Version\na = b\n").is_err());
    assert!(Inf::parse(format!("[{}]\n", "x".repeat(256)).as_bytes()).is_err());
    assert!(Inf::parse(&vec![b'\n'; INF_MAX + 1]).is_err());
    assert!(Inf::parse(b"").unwrap().sections.is_empty());
}

#[test]
fn strings_are_replaced_in_keys_and_fields() {
    let inf = inf(
        "[Version]\nProvider=%V%\n%V% = a,%12%\\x.sys,\"%%SystemRoot%%\\%f%\",100%\n\
         [Strings]\nv = \"Red Hat, Inc.\"\nv = second\n[Strings.0407]\nv=Rot\nf=\"Datei\"\n\
         [strings.0409]\nF=file\n",
    );
    assert_eq!(inf.provider().unwrap(), "Red Hat, Inc.");
    let line = inf.section("version").unwrap().lines.get(1).unwrap();
    assert_eq!(line.key.as_deref(), Some("Red Hat, Inc."));
    assert_eq!(
        line.fields,
        ["a", "%12%\\x.sys", "%SystemRoot%\\file", "100%"]
    );
}

#[test]
fn strings_cannot_blow_up() {
    let mut text = format!("[Strings]\na = {}\n[x]\n", "y".repeat(60_000));
    text.push_str(&"%a%".repeat(300_000));
    assert!(Inf::parse(text.as_bytes()).is_err());
    text = "[x]\n".to_owned() + &"\\ \\,%".repeat(100_000);
    Inf::parse(text.as_bytes()).unwrap();
}

#[test]
fn every_encoding_is_read() {
    let text = "[Version]\r\nProvider = \"Müller – €\"\r\n";
    let wide = |swap: bool| {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units
            .flat_map(|unit| {
                if swap {
                    unit.to_be_bytes()
                } else {
                    unit.to_le_bytes()
                }
            })
            .collect::<Vec<u8>>()
    };
    let marked = [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
    let ansi = b"[Version]\r\nProvider = \"M\xfcller \x96 \x80\"\r\n".to_vec();
    let bare = wide(false).split_off(2);
    for bytes in [wide(false), wide(true), marked, ansi, bare] {
        let inf = Inf::parse(&bytes).unwrap();
        assert_eq!(inf.provider().unwrap(), "Müller – €");
    }
    assert_eq!(decode(b"a\x1ab").unwrap(), "a\u{1a}b");
    assert_eq!(
        inf("[a]\nb\n\u{1a}c = d").section("a").unwrap().lines.len(),
        1
    );
}

#[test]
fn decorations_are_read() {
    let parse = |text| Target::parse(text);
    assert!(parse("NT").is_some_and(|target| target.is_plain()));
    let target = parse("NTamd64.10.0...14393").unwrap();
    assert_eq!(target.arch.as_deref(), Some("amd64"));
    assert_eq!((target.version, target.build), (Some((10, 0)), 14393));
    assert!(parse("NTx86.6.1.0x1").unwrap().fits(WIN7));
    assert!(!parse("NTx86.6.1.3").unwrap().fits(WIN7));
    assert!(parse(" ntAMD64.10.0.3 ").unwrap().fits(SERVER_2016));
    for wrong in [
        "",
        "x86",
        "NT.Services",
        "NTx87",
        "NTx86.6.1.1.0.1.2",
        "NTx86.HW",
    ] {
        assert!(parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn the_newest_decoration_that_is_not_newer_is_taken() {
    let inf = inf(
        "[Manufacturer]\n%M% = M, NTx86, NTamd64.6.1, NTamd64.10.0...14393, NTamd64.10.0...17763, NTamd64.11.0, NTarm64\n\
         plain\n[M]\nnone = i, X\n[M.NTx86]\nx = i, X\n[M.NTamd64.6.1]\nold=i,X\n\
         [M.NTamd64.10.0...14393]\nmid=i,X\n[M.NTamd64.10.0...17763]\nnew=i,X,Y,,Z\n[plain]\np = i, P\n",
    );
    let names = |platform| -> Vec<String> {
        let models = inf.models(platform).into_iter();
        models.map(|model| model.description).collect()
    };
    assert_eq!(names(WIN10), ["new"]);
    assert_eq!(names(SERVER_2016), ["mid"]);
    assert_eq!(names(platform("amd64", 6, 3, 9600, false)), ["old"]);
    assert_eq!(names(WIN7), ["x", "p"]);
    // A section for this platform that is not there means: no device.
    assert!(names(platform("arm64", 10, 0, 22000, false)).is_empty());
    assert!(names(platform("amd64", 6, 0, 6002, true)).is_empty());
    assert_eq!(inf.models(WIN10)[0].ids, ["X", "Y", "Z"]);
}

#[test]
fn install_sections_are_chosen_by_platform() {
    let inf = inf(
        "[i]\n[i.NT]\n[i.NTx86]\n[i.NT.Services]\n[i.NTamd64.10.0]\n[i.NTamd64.10.0...30000]\n[j]\n[J.Services]\n",
    );
    assert_eq!(inf.install_section("I", WIN7).unwrap(), "i.ntx86");
    assert_eq!(inf.install_section("i", WIN10).unwrap(), "i.ntamd64.10.0");
    let win8 = platform("amd64", 6, 2, 9200, false);
    assert_eq!(inf.install_section("i", win8).unwrap(), "i.nt");
    assert_eq!(inf.install_section("j", win8).unwrap(), "j");
    assert!(inf.install_section("k", win8).is_none());
}

#[test]
fn version_is_read() {
    let inf = inf(
        "[version]\nSignature=\"$Windows NT$\"\nClassGUID = {4D36E97B-E325-11CE-BFC1-08002BE10318}\n\
         DriverVer = 07/21/2023,62.93.104.24000 \nCatalogFile=a.cat\nCatalogFile.NTx86=b.cat\n\
         [SourceDisksFiles]\na.sys=1\nA.SYS=1\n[SourceDisksFiles.amd64]\nb.dll=1\n",
    );
    assert!(inf.has_signature());
    assert_eq!(
        inf.class_guid().unwrap(),
        "{4d36e97b-e325-11ce-bfc1-08002be10318}"
    );
    assert_eq!(
        inf.driver_ver(),
        Some(((2023, 7, 21), [62, 93, 104, 24000]))
    );
    assert_eq!(inf.catalog(WIN7).unwrap(), "b.cat");
    assert_eq!(inf.source_files(WIN10), ["a.sys", "b.dll", "a.cat"]);
    for wrong in ["", "1/1", "13/1/2020,1", "1/1/2020,70000.1", "a/b/c,1"] {
        let inf = self::inf(&format!("[Version]\nDriverVer={wrong}\n"));
        assert_eq!(inf.driver_ver(), None, "{wrong}");
    }
}

#[test]
fn every_real_inf_is_read() {
    let Some(tree) = fixture::tree() else { return };
    let mut seen = 0;
    for (path, content) in tree.iter().filter(|(path, _)| path.ends_with(".inf")) {
        let inf = Inf::parse(content).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(inf.has_signature(), "{path}");
        assert!(inf.driver_ver().is_some(), "{path}");
        assert!(
            inf.class_guid().is_some_and(|guid| guid.len() == 38),
            "{path}"
        );
        let provider = inf.provider().unwrap();
        assert!(provider.starts_with("Red Hat"), "{path}: {provider}");
        let arch = if path.contains("amd64") {
            "amd64"
        } else {
            "x86"
        };
        let newest = platform(arch, 10, 0, 26100, false);
        let models = inf.models(newest);
        assert!(!models.is_empty(), "{path}");
        for model in models {
            let install = inf.install_section(&model.install, newest).unwrap();
            let services = inf.section(&format!("{install}.Services")).unwrap();
            assert!(services.of("AddService").next().is_some(), "{path}");
            assert!(!model.description.contains('%'), "{path}");
        }
        assert!(inf.source_files(newest).len() >= 2, "{path}");
        seen += 1;
    }
    assert!(seen > 90, "{seen}");
}

#[test]
fn a_real_inf_means_what_it_says() {
    let Some(tree) = fixture::tree() else { return };
    let (_, content) = tree
        .iter()
        .find(|(path, _)| path == "Win8/amd64/viofs.inf")
        .unwrap();
    let inf = Inf::parse(content).unwrap();
    let win8 = platform("amd64", 6, 2, 9200, false);
    assert_eq!(
        inf.models(win8),
        [Model {
            description: "VirtIO FS Device".to_owned(),
            install: "VirtioFs_Device".to_owned(),
            ids: vec![
                "PCI\\VEN_1AF4&DEV_105A&SUBSYS_11001AF4&REV_01".to_owned(),
                "PCI\\VEN_1AF4&DEV_105A".to_owned(),
            ],
        }]
    );
    assert_eq!(
        inf.source_files(win8),
        ["viofs.sys", "WdfCoInstaller01011.dll", "viofs.cat"]
    );
    // Continued over two lines.
    let add = inf.section("VirtioFs_Wdf_CoInstaller_AddReg").unwrap();
    assert_eq!(
        add.lines.first().unwrap().fields,
        [
            "HKR",
            "",
            "CoInstallers32",
            "0x00010000",
            "WdfCoInstaller01011.dll,WdfCoInstaller"
        ]
    );
}

#[test]
fn mutated_files_neither_panic_nor_hang() {
    let Some(tree) = fixture::tree() else { return };
    let started = std::time::Instant::now();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let special = b"[]\"\\%;,=\n\r\t \x00\xff\xfe\x1a.";
    for (_, content) in tree.iter().filter(|(path, _)| path.ends_with(".inf")) {
        for _ in 0..20 {
            let mut bytes = content.clone();
            for _ in 0..=random(30) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = special[random(special.len())],
                    1 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                    _ => bytes.insert(at, special[random(special.len())]),
                }
            }
            let Ok(inf) = Inf::parse(&bytes) else {
                continue;
            };
            for platform in [WIN7, WIN10] {
                for model in inf.models(platform) {
                    inf.install_section(&model.install, platform);
                }
                inf.source_files(platform);
            }
            inf.driver_ver();
        }
    }
    assert!(started.elapsed().as_secs() < 60);
}
