use super::super::pcap::tests::frames_of;

type Write = fn(u32) -> [u8; 4];

/// A block: type, length, body, length.
fn block(write: Write, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = write(u32::try_from(padded + 12).unwrap());
    let padding = vec![0; padded - body.len()];
    [&write(kind)[..], &length, body, &padding, &length].concat()
}

fn half(write: Write, value: u16) -> Vec<u8> {
    let word = write(u32::from(value));
    if write(1) == [1, 0, 0, 0] { word[..2].to_vec() } else { word[2..].to_vec() }
}

fn section(write: Write) -> Vec<u8> {
    let options = [half(write, 4), half(write, 5), b"qhaul".to_vec()].concat();
    let body = [&write(0x1a2b_3c4d)[..], &half(write, 1), &half(write, 0), &[0xff; 8], &options].concat();
    block(write, 0x0a0d_0d0a, &body)
}

fn interface(write: Write, link_type: u16, snap_length: u32) -> Vec<u8> {
    block(write, 1, &[&half(write, link_type)[..], &[0, 0], &write(snap_length)].concat())
}

fn words(write: Write, words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| write(*word)).collect()
}

fn enhanced(write: Write, interface: u32, frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap();
    let padding = vec![0; frame.len().next_multiple_of(4) - frame.len()];
    let options = [half(write, 1), half(write, 2), vec![b'o', b'k', 0, 0]].concat();
    let head = words(write, &[interface, 1, 2, length, length + 100]);
    block(write, 6, &[&head[..], frame, &padding, &options].concat())
}

fn simple(write: Write, on_the_wire: u32, frame: &[u8]) -> Vec<u8> {
    block(write, 3, &[&write(on_the_wire)[..], frame].concat())
}

fn obsolete(write: Write, frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap();
    let head = [half(write, 0), half(write, 7), words(write, &[1, 2, length, length])].concat();
    block(write, 2, &[&head[..], frame].concat())
}

#[test]
fn packets_of_all_kinds_come_back_in_either_byte_order() {
    for write in [u32::to_le_bytes as Write, u32::to_be_bytes] {
        let file = [
            section(write),
            interface(write, 1, 100),
            block(write, 5, &[0; 20]),
            enhanced(write, 0, &[1; 61]),
            simple(write, 300, &[2; 100]),
            obsolete(write, &[3; 14]),
            block(write, 0x0bad, &[9; 3]),
            enhanced(write, 0, &[]),
        ]
        .concat();
        assert_eq!(frames_of(&file).unwrap(), [vec![1; 61], vec![2; 100], vec![3; 14], vec![]]);
    }
}

#[test]
fn a_section_has_its_own_byte_order_and_interfaces() {
    let (little, big) = (u32::to_le_bytes as Write, u32::to_be_bytes as Write);
    let first = [section(little), interface(little, 113, 0), interface(little, 1, 0)].concat();
    let second = [section(big), interface(big, 1, 0), enhanced(big, 0, &[8; 64])].concat();
    let file = [&first[..], &enhanced(little, 1, &[7; 64]), &second].concat();
    assert_eq!(frames_of(&file).unwrap(), [vec![7; 64], vec![8; 64]]);
    // The first section's interfaces ended with it.
    let file = [&first[..], &second, &enhanced(big, 1, &[7; 64])].concat();
    assert!(frames_of(&file).unwrap_err().contains("interface 1 is not described"));
}

#[test]
fn damage_is_named() {
    let write = u32::to_le_bytes as Write;
    let start = [section(write), interface(write, 1, 0)].concat();
    let with = |block: &[u8]| frames_of(&[&start[..], block].concat()).unwrap_err();
    let whole = enhanced(write, 0, &[1; 64]);
    assert!(with(&whole[..whole.len() - 1]).contains("frame 1: the file is cut short"));
    assert!(with(&whole[..6]).contains("cut short"));
    assert!(with(&block(write, 0x0bad, &[0; 64])[..40]).contains("cut short"));
    let mut claims = whole.clone();
    claims[8 + 12..8 + 16].copy_from_slice(&write(0x0fff_ffff));
    assert!(with(&claims).contains("claims 268435455 bytes"));
    let mut disagrees = whole.clone();
    *disagrees.last_mut().unwrap() = 9;
    assert!(with(&disagrees).contains("a block's lengths"));
    for length in [0_u32, 11, 13, u32::MAX] {
        assert!(with(&words(write, &[6, length])).contains("a block claims"), "{length}");
    }
    assert!(with(&words(write, &[6, 0xffff_fff0])).contains("a block of"));
    assert!(with(&block(write, 6, &[0; 8])).contains("too short"));
    let wifi = [section(write), interface(write, 105, 0), whole].concat();
    assert!(frames_of(&wifi).unwrap_err().contains("link type is 105, not Ethernet"));
    let mut magic = section(write);
    magic[8] = 0;
    assert!(frames_of(&magic).unwrap_err().contains("byte-order magic"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, at in 0..400_usize, value: u8) {
        let write = u32::to_be_bytes as Write;
        let file = [section(write), interface(write, 1, 0), enhanced(write, 0, &[1; 61]), simple(write, 9, &[2; 9])];
        let mut damaged = file.concat();
        if let Some(byte) = damaged.get_mut(at) {
            *byte = value;
        }
        for bytes in [bytes.clone(), [&section(write)[..], &bytes].concat(), damaged] {
            let _ = frames_of(&bytes);
        }
    }
}
