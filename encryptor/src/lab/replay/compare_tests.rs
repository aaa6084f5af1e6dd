use super::*;

/// A UDP packet over IPv4 from a port of its own for each flow.
fn frame(port: u16, number: u8) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9, 0, 26, 0, 0]);
    frame.extend([number; 18]);
    frame
}

/// What is found when `sent` was sent and `received` arrived.
fn compare(sent: &[Vec<u8>], received: &[Vec<u8>]) -> Compared {
    let mut comparer = Comparer::default();
    sent.iter().zip(1..).for_each(|(frame, number)| comparer.sent(number, frame));
    received.iter().for_each(|frame| comparer.received(frame));
    let outstanding = comparer.outstanding();
    let compared = comparer.conclude();
    assert_eq!(compared.matched + outstanding, sent.len() as u64);
    compared
}

fn kinds(sent: &[Vec<u8>], received: &[Vec<u8>]) -> Vec<(u64, FaultKind)> {
    compare(sent, received).faults.iter().map(|fault| (fault.number, fault.kind)).collect()
}

fn three() -> Vec<Vec<u8>> {
    (1..=3).map(|number| frame(5000, number)).collect()
}

#[test]
fn what_arrives_as_it_was_sent_is_no_fault() {
    let mut sent = three();
    sent.extend([frame(5001, 1), frame(5000, 1), vec![1; 14], vec![7; 1514]]);
    assert_eq!(compare(&sent, &sent).matched, 7);
    assert_eq!(kinds(&sent, &sent), []);
}

#[test]
fn a_missing_frame_is_found() {
    let sent = three();
    assert_eq!(kinds(&sent, &[sent[0].clone(), sent[2].clone()]), [(2, FaultKind::Missing)]);
    assert_eq!(kinds(&sent, &[]).len(), 3);
    // One of two that are alike.
    let twice = [sent[0].clone(), sent[0].clone()];
    assert_eq!(kinds(&twice, &twice[..1]), [(2, FaultKind::Missing)]);
}

#[test]
fn a_changed_frame_is_found_wherever_it_changed() {
    for at in 0..frame(5000, 1).len() {
        let sent = three();
        let mut received = sent.clone();
        received[1][at] ^= 0x10;
        let (was, is) = (Some(sent[1][at]), Some(received[1][at]));
        let kind = FaultKind::Changed { at, sent: was, received: is, length: 60 };
        assert_eq!(kinds(&sent, &received), [(2, kind)], "byte {at}");
    }
}

#[test]
fn a_frame_that_was_cut_or_padded_is_found() {
    let sent = three();
    let mut received = sent.clone();
    received[2].truncate(59);
    let kind = FaultKind::Changed { at: 59, sent: Some(3), received: None, length: 59 };
    assert_eq!(kinds(&sent, &received), [(3, kind)]);
    let mut received = sent.clone();
    received[2].push(0);
    let kind = FaultKind::Changed { at: 60, sent: None, received: Some(0), length: 61 };
    assert_eq!(kinds(&sent, &received), [(3, kind)]);
}

#[test]
fn frames_that_were_swapped_are_found_within_a_flow_only() {
    let sent = three();
    let swapped = [sent[0].clone(), sent[2].clone(), sent[1].clone()];
    assert_eq!(kinds(&sent, &swapped), [(2, FaultKind::Overtaken { by: 3 })]);
    let last_first = [sent[2].clone(), sent[0].clone(), sent[1].clone()];
    let found = [(1, FaultKind::Overtaken { by: 3 }), (2, FaultKind::Overtaken { by: 3 })];
    assert_eq!(kinds(&sent, &last_first), found);
    let two_flows = [frame(5000, 1), frame(5001, 1)];
    assert_eq!(kinds(&two_flows, &[two_flows[1].clone(), two_flows[0].clone()]), []);
}

#[test]
fn a_copy_and_a_stranger_are_found() {
    let sent = three();
    let copied = [&sent[..], &sent[..1]].concat();
    assert_eq!(kinds(&sent, &copied), [(0, FaultKind::Extra)]);
    // A stranger is not taken for the frame that is missing.
    let received = [sent[0].clone(), sent[1].clone(), vec![0xee; 60]];
    assert_eq!(kinds(&sent, &received), [(3, FaultKind::Missing), (0, FaultKind::Extra)]);
    let many: Vec<_> = (0..STRANGERS + 5).map(|_| vec![0xee; 60]).collect();
    assert_eq!(kinds(&[], &many).len(), STRANGERS + 5);
}

#[test]
fn a_fault_names_frame_flow_and_byte() {
    let sent = three();
    let mut received = sent.clone();
    received[1][50] = 0xff;
    let said = compare(&sent, &received).faults[0].to_string();
    for part in
        ["frame 2, 60 bytes", "offset 50", "sent 02, received ff", "ipv4 10.0.0.1 > 10.0.0.2", "5000 > 9"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}
