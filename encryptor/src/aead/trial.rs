//! What an engine has to show before the first packet: a known answer, and the same bytes as the other engine.

use ring::rand::{SecureRandom, SystemRandom};

use super::{Engine, ICV_LEN, KeyStore};

/// Test case 16 of McGrew and Viega's GCM specification (AES-256, 60 bytes of text, 20 bytes of additional data).
const KEY: &[u8; 32] = b"\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08\
    \xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08";
const NONCE: [u8; 12] = [0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88];
const AAD: &[u8] = b"\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\xab\xad\xda\xd2";
const TEXT: &[u8; 60] = b"\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a\
    \x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72\
    \x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25\
    \xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";
const SEALED: &[u8; 76] = b"\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d\
    \x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa\
    \x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38\
    \xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62\
    \x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b";

/// Whether the engine seals and opens the known packet, and refuses it with a bit flipped.
pub(super) fn known_answer(engine: Engine) -> bool {
    let mut keys = KeyStore::with_capacity(engine, 1);
    keys.push_bytes(KEY);
    let mut body = [&TEXT[..], &[0; ICV_LEN]].concat();
    seal(&keys, &NONCE, AAD, &mut body);
    let sealed = body == SEALED;
    let opened = keys.get(0).open(&NONCE, AAD, &mut body) && body[..TEXT.len()] == TEXT[..];
    let mut flipped = SEALED.to_vec();
    flipped[30] ^= 4;
    sealed && opened && !keys.get(0).open(&NONCE, AAD, &mut flipped)
}

/// Text lengths at which two engines are compared: all that a block's end could matter for.
const LENGTHS: std::ops::RangeInclusive<usize> = 0..=2048;

/// The first text length at which the engine and `ring` differ, be it in sealing or in opening what the other sealed. Keys,
/// nonces and texts are random; a jumbo frame's length comes on top.
pub(super) fn differs_from_ring(engine: Engine) -> Option<usize> {
    let random = SystemRandom::new();
    let fill = |bytes: &mut [u8]| random.fill(bytes).expect("the system has random numbers");
    let (mut key, mut nonce, mut aad) = ([0; 32], [0; 12], [0; 12]);
    let mut text = vec![0; 9216];
    fill(&mut text);
    let (mut own, mut ring) = (KeyStore::with_capacity(engine, 1), KeyStore::with_capacity(Engine::Ring, 1));
    LENGTHS.chain([8960, 9001, 9216]).find(|&length| {
        if length % 64 == 0 {
            fill(&mut key);
            fill(&mut aad);
            for keys in [&mut own, &mut ring] {
                keys.clear();
                keys.push_bytes(&key);
            }
        }
        fill(&mut nonce);
        let mut by_own = [&text[..length], &[0; ICV_LEN]].concat();
        let mut by_ring = by_own.clone();
        seal(&own, &nonce, &aad, &mut by_own);
        seal(&ring, &nonce, &aad, &mut by_ring);
        let same = by_own == by_ring;
        let opened = own.get(0).open(&nonce, &aad, &mut by_ring) && by_ring[..length] == text[..length];
        let flip = usize::from(nonce[0]) % by_own.len();
        by_own[flip] ^= 1 << (nonce[1] % 8);
        !(same && opened) || own.get(0).open(&nonce, &aad, &mut by_own)
    })
}

fn seal(keys: &KeyStore, nonce: &[u8; 12], aad: &[u8], body: &mut [u8]) {
    if let Some((text, icv)) = body.split_last_chunk_mut() {
        keys.get(0).seal(nonce, aad, text, icv);
    }
}
