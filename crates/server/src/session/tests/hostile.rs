//! Agents that lie: refused, and nothing of what they said is used.

use image::ErrorKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};
use wire::SESSION_METADATA;
use wire::session::session_client::SessionClient;
use wire::session::{
    AgentMessage, Chunk, Encoding, Hello, LogLine, ReadRequest, UserAction, agent_message,
};

use super::fake::message_of;
use super::*;

type Lie = fn(&ReadRequest, Chunk) -> Vec<Chunk>;

/// An agent that answers the first `times` requests with a lie.
fn liar(disk: &[u8], lie: Lie, times: u64) -> FakeAgent {
    let mut agent = FakeAgent::new(vec![disk.to_vec()]);
    let told = std::sync::atomic::AtomicU64::new(0);
    agent.answer = Box::new(move |request, chunk| {
        if told.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < times {
            lie(request, chunk)
        } else {
            vec![chunk]
        }
    });
    agent
}

const LIES: &[(&str, Lie)] = &[
    ("less data", |_, mut c| {
        c.data.truncate(c.data.len().saturating_sub(1));
        vec![c]
    }),
    ("another hash", |_, mut c| {
        c.hashes[0] ^= 1;
        vec![c]
    }),
    ("past the end", |_, mut c| {
        c.offset += 1 << 40;
        vec![c]
    }),
    ("unasked", |_, mut c| {
        c.id += 1000;
        vec![c]
    }),
    ("twice", |_, c| vec![c.clone(), c]),
    ("same without a base", |_, mut c| {
        c.same_blocks = !c.zero_blocks & 1;
        vec![c]
    }),
    ("a bomb", |_, mut c| {
        c.encoding = Encoding::Zstd.into();
        c.data = zstd::bulk::compress(&vec![0; 256 << 20], 1).unwrap().into();
        vec![c]
    }),
    ("bad ranges outside", |_, mut c| {
        c.bad = vec![wire::session::Range {
            offset: u64::MAX,
            len: u64::MAX,
        }];
        vec![c]
    }),
    ("larger than a message may be", |_, mut c| {
        c.data = vec![1; 3 << 20].into();
        vec![c]
    }),
];

#[test]
fn one_lie_closes_the_stream_and_the_truth_is_taken_after_it() {
    let disk = noise(2 * MIB, 20);
    for (name, lie) in LIES {
        let setup = Setup::new(liar(&disk, *lie, 1));
        let _running = setup.start();
        let received = receive(setup.machine.sources()[0].as_ref());
        assert!(received.is_ok_and(|bytes| bytes == disk), "{name}");
    }
}

#[test]
fn a_session_of_lies_is_refused_and_other_jobs_go_on() {
    let disk = noise(2 * MIB, 21);
    let good = mixed(4, 22);
    let (_, lie) = LIES[1];
    let setup = Setup::new(liar(&disk, lie, u64::MAX));
    let dir = tempfile::tempdir().unwrap();
    let other = Arc::new(FakeAgent::new(vec![good.clone()]));
    let machine = open(&other.inventory(), options(dir.path()));
    let identity = setup.rig.pki.client("other");
    setup.rig.agents.admit(&identity, 2, &machine);
    let (_running, _other) = (setup.start(), setup.rig.start(&identity, &other));
    let error = setup.machine.sources()[0]
        .read_at(&mut [0; 9], 0)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let error = text(&error);
    assert!(error.contains("refused after 3"), "{error}");
    eventually("told so", || {
        let ends = setup.agent.ends.lock().unwrap();
        ends.iter().any(|end| end.code() == Code::PermissionDenied)
    });
    assert!(receive(machine.sources()[0].as_ref()).unwrap() == good);
}

#[test]
fn an_agent_that_never_answers_or_is_away_ends_the_patience() {
    let disk = noise(MIB, 23);
    let patience = |options: &mut RemoteOptions| {
        options.patience = Some(Duration::from_millis(300));
    };
    let setup = Setup::with(liar(&disk, |_, _| vec![], u64::MAX), patience);
    let read = |expected: &str| {
        let error = setup.machine.sources()[0]
            .read_at(&mut [0; 9], 0)
            .unwrap_err();
        let error = text(&error);
        assert!(error.contains(expected), "{error}");
    };
    read("has been away");
    let _running = setup.start();
    eventually("connected", || setup.machine.is_connected());
    read("has not answered");
    let error = setup.machine.prove(false, &CancelToken::new()).unwrap();
    assert!(error.is_empty());
}

#[test]
fn a_disk_that_cannot_be_read_fails_after_retries() {
    let disk = noise(MIB, 24);
    let lie: Lie = |request, _| {
        vec![wire::chunk::failed(
            request,
            "gone\nwith\x1b the wind".into(),
        )]
    };
    let setup = Setup::new(liar(&disk, lie, 2));
    let _running = setup.start();
    assert!(receive(setup.machine.sources()[0].as_ref()).unwrap() == disk);
    let setup = Setup::new(liar(&disk, lie, u64::MAX));
    let _running = setup.start();
    let error = setup.machine.sources()[0]
        .read_at(&mut [0; 9], 0)
        .unwrap_err();
    let error = text(&error);
    assert!(
        error.contains("sda") && error.contains("gone with"),
        "{error}"
    );
    assert!(!error.contains(char::is_control));
    assert_eq!(setup.agent.requests.lock().unwrap().len(), 3);
}

#[test]
fn strangers_and_wrong_hellos_are_refused() {
    let setup = Setup::new(FakeAgent::new(vec![mixed(1, 25)]));
    let stranger = setup.rig.pki.client("stranger");
    let code = |identity: &Identity, first: Option<AgentMessage>| {
        let channel = setup.rig.dial(identity);
        setup.rig.runtime.block_on(async {
            let (send, messages) = mpsc::channel(4);
            if let Some(first) = first {
                send.send(first).await.unwrap();
            }
            drop(send);
            let mut client = SessionClient::new(channel);
            match client.control(ReceiverStream::new(messages)).await {
                Err(status) => status.code(),
                Ok(answers) => match answers.into_inner().message().await {
                    Err(status) => status.code(),
                    Ok(_) => Code::Ok,
                },
            }
        })
    };
    let hello = |change: fn(&mut Hello)| {
        let mut message = setup.agent.hello();
        if let Some(agent_message::Message::Hello(hello)) = &mut message.message {
            change(hello);
        }
        Some(message)
    };
    let known = &setup.identity;
    assert_eq!(code(&stranger, hello(|_| {})), Code::PermissionDenied);
    assert_eq!(code(known, None), Code::InvalidArgument);
    let log = message_of(agent_message::Message::Log(LogLine::default()));
    assert_eq!(code(known, Some(log)), Code::InvalidArgument);
    assert_eq!(
        code(known, hello(|h| h.protocol += 1)),
        Code::FailedPrecondition
    );
    assert_eq!(
        code(known, hello(|h| h.session.push(1))),
        Code::InvalidArgument
    );
    assert_eq!(
        code(known, hello(|h| h.inventory = None)),
        Code::FailedPrecondition
    );
    let smaller = |h: &mut Hello| h.inventory.as_mut().unwrap().disks[0].virtual_size -= 512;
    assert_eq!(code(known, hello(smaller)), Code::FailedPrecondition);
    assert_eq!(code(known, hello(|_| {})), Code::Ok);
}

#[test]
fn a_data_stream_needs_a_session_of_its_own_certificate() {
    let setup = Setup::new(FakeAgent::new(vec![mixed(1, 26)]));
    let thief = setup.rig.pki.client("thief");
    setup.rig.agents.admit(&thief, 2, &setup.machine);
    let _running = setup.start();
    eventually("connected", || setup.machine.is_connected());
    let code = |identity: &Identity, session: Option<&str>| {
        let channel = setup.rig.dial(identity);
        setup.rig.runtime.block_on(async {
            let (_send, chunks) = mpsc::channel(1);
            let mut request = Request::new(ReceiverStream::new(chunks));
            if let Some(session) = session {
                let metadata = request.metadata_mut();
                metadata.insert(SESSION_METADATA, session.parse().unwrap());
            }
            let result = SessionClient::new(channel).data(request).await;
            result.err().map(|status| status.code())
        })
    };
    let id = data_encoding::HEXLOWER.encode(&setup.agent.id);
    assert_eq!(code(&thief, Some(&id)), Some(Code::NotFound));
    assert_eq!(code(&setup.identity, None), Some(Code::InvalidArgument));
    assert_eq!(
        code(&setup.identity, Some("xyz")),
        Some(Code::InvalidArgument)
    );
    let unknown = "00".repeat(16);
    assert_eq!(code(&setup.identity, Some(&unknown)), Some(Code::NotFound));
    assert_eq!(code(&setup.identity, Some(&id)), None);
}

#[test]
fn logs_are_cut_and_actions_are_passed_on() {
    let setup = Setup::new(FakeAgent::new(vec![mixed(1, 27)]));
    let channel = setup.rig.dial(&setup.identity);
    setup.rig.runtime.block_on(async {
        let (send, messages) = mpsc::channel(4);
        send.send(setup.agent.hello()).await.unwrap();
        let mut client = SessionClient::new(channel);
        let answers = client.control(ReceiverStream::new(messages)).await.unwrap();
        for _ in 0..500 {
            let line = LogLine {
                uptime_ms: 1,
                text: "line\n".repeat(1000),
            };
            let line = message_of(agent_message::Message::Log(line));
            send.send(line).await.unwrap();
        }
        for action in [0, UserAction::Retry.into(), 77] {
            let action = message_of(agent_message::Message::Action(action));
            send.send(action).await.unwrap();
        }
        drop(send);
        let mut answers = answers.into_inner();
        while let Ok(Some(_)) = answers.message().await {}
    });
    eventually("gone", || setup.events().contains(&"gone 1".to_owned()));
    let events = setup.events();
    let lines: Vec<_> = events.iter().filter(|e| e.starts_with("log")).collect();
    assert!((1..=150).contains(&lines.len()), "{}", lines.len());
    assert!(
        lines
            .iter()
            .all(|line| line.len() < 1100 && !line.contains('\n'))
    );
    let actions: Vec<_> = events.iter().filter(|e| e.starts_with("action")).collect();
    assert_eq!(actions, ["action 1 RETRY"]);
}
