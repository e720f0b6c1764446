//! Kernel modules as small as depmod accepts: an ELF object with .modinfo, exported names and wanted names.

/// Section types and one symbol kind (System V ABI, chapters "Sections" and "Symbol Table").
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const STB_GLOBAL: u8 = 1 << 4;
const SHDR_LEN: u64 = 64;
const EHDR_LEN: u64 = 64;

/// Builds a module that exports and needs these symbols and answers to these aliases.
pub(crate) fn module(name: &str, exports: &[&str], needs: &[&str], aliases: &[&str]) -> Vec<u8> {
    let mut modinfo = format!("license=GPL\0name={name}\0vermagic=6.1.0 SMP\0").into_bytes();
    for alias in aliases {
        modinfo.extend_from_slice(format!("alias={alias}\0").as_bytes());
    }
    let mut strings = vec![0u8];
    let mut symbols = vec![0u8; 24];
    let mut symbol = |name: &str, section: u16| {
        symbols.extend_from_slice(&u32::try_from(strings.len()).unwrap().to_le_bytes());
        symbols.extend_from_slice(&[STB_GLOBAL, 0]);
        symbols.extend_from_slice(&section.to_le_bytes());
        symbols.extend_from_slice(&[0; 16]);
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    };
    for name in needs {
        symbol(name, 0);
    }
    let mut ksymtab = Vec::new();
    for name in exports {
        symbol(name, 1);
        ksymtab.extend_from_slice(name.as_bytes());
        ksymtab.push(0);
    }
    let sections: [(&str, u32, Vec<u8>, u32, u64); 4] = [
        (".modinfo", SHT_PROGBITS, modinfo, 0, 0),
        ("__ksymtab_strings", SHT_PROGBITS, ksymtab, 0, 0),
        (".symtab", SHT_SYMTAB, symbols, 4, 24),
        (".strtab", SHT_STRTAB, strings, 0, 0),
    ];
    elf(&sections)
}

fn elf(sections: &[(&str, u32, Vec<u8>, u32, u64)]) -> Vec<u8> {
    let mut names = vec![0u8];
    let mut body = vec![0u8; usize::try_from(EHDR_LEN).unwrap()];
    let mut headers = vec![0u8; usize::try_from(SHDR_LEN).unwrap()];
    let mut add = |name: &str,
                   kind: u32,
                   content: &[u8],
                   link: u32,
                   entry: u64,
                   body: &mut Vec<u8>,
                   names: &mut Vec<u8>| {
        let at = u32::try_from(names.len()).unwrap();
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let content = if name == ".shstrtab" {
            names.clone()
        } else {
            content.to_vec()
        };
        body.resize(body.len().next_multiple_of(8), 0);
        let offset = body.len() as u64;
        body.extend_from_slice(&content);
        headers.extend_from_slice(&at.to_le_bytes());
        headers.extend_from_slice(&kind.to_le_bytes());
        for word in [0, 0, offset, content.len() as u64] {
            headers.extend_from_slice(&u64::to_le_bytes(word));
        }
        headers.extend_from_slice(&link.to_le_bytes());
        headers.extend_from_slice(&1u32.to_le_bytes());
        for word in [8u64, entry] {
            headers.extend_from_slice(&word.to_le_bytes());
        }
    };
    for (name, kind, content, link, entry) in sections {
        add(name, *kind, content, *link, *entry, &mut body, &mut names);
    }
    add(".shstrtab", SHT_STRTAB, &[], 0, 0, &mut body, &mut names);
    body.resize(body.len().next_multiple_of(8), 0);
    let offset = body.len() as u64;
    let count = u16::try_from(sections.len() + 2).unwrap();
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // e_type ET_REL, e_machine EM_X86_64, e_version.
    header.extend_from_slice(&[1, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, 0, offset] {
        header.extend_from_slice(&u64::to_le_bytes(word));
    }
    header.extend_from_slice(&[0; 4]);
    for half in [64u16, 0, 0, 64, count, count - 1] {
        header.extend_from_slice(&half.to_le_bytes());
    }
    body[..header.len()].copy_from_slice(&header);
    body.extend_from_slice(&headers);
    body
}
