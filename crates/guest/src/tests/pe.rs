//! PE programs with nothing but sections (Microsoft PE Format, "File Headers").

/// A 64-bit x86 program with these sections.
pub(crate) fn program(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEADERS: usize = 0x400;
    let mut file = vec![0u8; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend_from_slice(b"PE\0\0");
    file.extend_from_slice(&0x8664u16.to_le_bytes());
    file.extend_from_slice(&u16::try_from(sections.len()).unwrap().to_le_bytes());
    file.extend_from_slice(&[0; 12]);
    file.extend_from_slice(&112u16.to_le_bytes());
    file.extend_from_slice(&0x22u16.to_le_bytes());
    let mut optional = vec![0u8; 112];
    optional[..2].copy_from_slice(&0x20bu16.to_le_bytes());
    optional[32] = 0x10;
    optional[36] = 0x10;
    file.extend_from_slice(&optional);
    let mut at = u32::try_from(HEADERS).unwrap();
    for (name, data) in sections {
        let len = u32::try_from(data.len()).unwrap();
        let mut header = [0u8; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (place, value) in [(8, len), (12, at), (16, len), (20, at)] {
            header[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        file.extend_from_slice(&header);
        at += len;
    }
    file.resize(HEADERS, 0);
    for (_, data) in sections {
        file.extend_from_slice(data);
    }
    file
}
