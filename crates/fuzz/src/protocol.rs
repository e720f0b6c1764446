//! What strangers and agents say to the converter server. Assertions: a join string that is understood is written again
//! as one that means the same; a verified chunk answers its request block by block with bytes that have their hashes.

use data_encoding::BASE64URL_NOPAD;
use prost::Message;
use wire::chunk::{BlockContent, block_hash, verify};
use wire::inventory::Inventory;
use wire::join::{Fingerprint, JoinString, Secret};
use wire::session::{Chunk, Hello, ReadRequest};
use wire::{BLOCK_LEN, MAX_CHUNK_LEN};

pub(crate) fn join(data: &[u8]) {
    // Also as the content of a join string whose check bytes are right, which no mutation would find.
    let mut content = data.to_vec();
    content.extend(blake3::hash(data).as_bytes().iter().take(4));
    joins(&format!("v2v1.{}", BASE64URL_NOPAD.encode(&content)));
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    joins(text);
    if let Ok(secret) = Secret::from_code(text) {
        assert_eq!(Secret::from_code(&secret.code()), Ok(secret));
    }
    if let Ok(print) = text.parse::<Fingerprint>() {
        assert_eq!(print.to_string().parse(), Ok(print));
    }
}

fn joins(text: &str) {
    if let Ok(join) = text.parse::<JoinString>() {
        let again: Result<JoinString, _> = join.to_string().parse();
        assert_eq!(again.as_ref(), Ok(&join));
    }
}

/// The input is a length-delimited request and a chunk. The request is the server's own, so it is made a lawful one.
pub(crate) fn chunk(mut data: &[u8]) {
    let Ok(mut request) = ReadRequest::decode_length_delimited(&mut data) else {
        return;
    };
    request.offset = request.offset / u64::from(BLOCK_LEN) * u64::from(BLOCK_LEN) % (1 << 60);
    request.len = request.len % MAX_CHUNK_LEN + 1;
    let Ok(mut answer) = Chunk::decode(data) else {
        return;
    };
    // No mutation would find these together.
    if answer.id == 0 {
        (answer.id, answer.disk) = (request.id, request.disk);
        (answer.offset, answer.len) = (request.offset, request.len);
    }
    let Ok(verified) = verify(&request, &answer) else {
        return;
    };
    assert_eq!(
        verified.blocks.len(),
        request.len.div_ceil(BLOCK_LEN) as usize
    );
    let mut place = 0;
    for (index, block) in (0u32..).zip(&verified.blocks) {
        match block {
            BlockContent::Data { hash, at } => {
                assert_eq!(at.start, place);
                let len = (request.len - index * BLOCK_LEN).min(BLOCK_LEN) as usize;
                assert_eq!(at.len(), len);
                assert_eq!(verified.plain.get(at.clone()).map(block_hash), Some(*hash));
                place = at.end;
            }
            BlockContent::Zero => {}
            BlockContent::Same => assert!(!request.known_hashes.is_empty()),
        }
    }
    assert_eq!(place, verified.plain.len());
    let mut last = request.offset;
    for bad in &verified.bad {
        assert!(last <= bad.start && bad.start < bad.end);
        last = bad.end;
    }
    assert!(last <= request.offset + u64::from(request.len));
}

/// An inventory, alone and within a hello.
pub(crate) fn inventory(data: &[u8]) {
    let _ = Inventory::decode(data);
    if let Ok(hello) = Hello::decode(data) {
        let again = Hello::decode(hello.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&hello));
    }
}

#[cfg(test)]
mod tests {
    use wire::chunk::{Compress, build};

    use super::*;

    /// The seeds in `seeds/` are what this writes with `V2V_FUZZ_SEEDS` set to that folder.
    #[test]
    fn seeds_are_understood() {
        let request = ReadRequest {
            id: 3,
            len: 3 * BLOCK_LEN - 512 - 1,
            known_hashes: vec![1; 96],
            ..ReadRequest::default()
        };
        let lawful = ReadRequest {
            len: request.len + 1,
            ..request.clone()
        };
        let mut plain = vec![0u8; lawful.len as usize];
        plain[..5000].fill(7);
        let seeds = [Compress::Never, Compress::Zstd].map(|compress| {
            let mut answer = build(
                &lawful,
                &bytes::Bytes::copy_from_slice(&plain),
                Vec::new(),
                compress,
            )
            .chunk;
            assert!(verify(&lawful, &answer).is_ok());
            answer.id = 0;
            let mut seed = request.encode_length_delimited_to_vec();
            seed.extend(answer.encode_to_vec());
            chunk(&seed);
            seed
        });
        let join = JoinString {
            servers: vec!["192.0.2.7:7440".into(), "[2001:db8::7]:7440".into()],
            fingerprint: Fingerprint([0xa5; 32]),
            secret: Secret([7; 16]),
        };
        let hello = Hello {
            protocol: 1,
            session: vec![1; 16],
            inventory: Some(Inventory {
                machine_id: vec![2; 32],
                disks: vec![wire::inventory::Disk {
                    name: "sda".into(),
                    virtual_size: 1 << 40,
                    ..Default::default()
                }],
                ..Inventory::default()
            }),
            wish: None,
        };
        let Some(folder) = std::env::var_os("V2V_FUZZ_SEEDS") else {
            return;
        };
        let write = |target: &str, name: &str, bytes: &[u8]| {
            let folder = std::path::Path::new(&folder).join(target);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(name), bytes).unwrap();
        };
        write("chunk", "zstd", &seeds[1]);
        write("join", "two-servers", join.to_string().as_bytes());
        let content = wire::enrol::Join {
            servers: join.servers.clone(),
            fingerprint: vec![3; 32],
            secret: vec![4; 16],
        };
        write("join", "content", &content.encode_to_vec());
        write("join", "code", join.secret.code().as_bytes());
        write(
            "join",
            "fingerprint",
            join.fingerprint.to_string().as_bytes(),
        );
        write("inventory", "hello", &hello.encode_to_vec());
        write(
            "inventory",
            "inventory",
            &hello.inventory.unwrap().encode_to_vec(),
        );
    }
}
