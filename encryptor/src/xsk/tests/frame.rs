use crate::xsk::{Error, Frame, HEADROOM, Umem};

fn with_frame(chunk: u32, test: impl FnOnce(&mut Frame)) {
    let mut umem = Umem::new(2, chunk).unwrap();
    let mut frame = umem.alloc().unwrap();
    test(&mut frame);
    umem.free(frame);
    assert_eq!(umem.available(), umem.capacity());
}

#[test]
fn a_packet_grows_and_shrinks_at_both_ends() {
    with_frame(2048, |frame| {
        assert!(frame.fill_from(b"payload"));
        assert_eq!((frame.headroom(), frame.len(), frame.tailroom()), (HEADROOM, 7, 2048 - HEADROOM - 7));
        frame.prepend(5).unwrap().copy_from_slice(b"head ");
        frame.append(5).unwrap().copy_from_slice(b" tail");
        assert_eq!(frame.data(), b"head payload tail");
        assert!(frame.advance(5));
        frame.truncate(7);
        assert_eq!(frame.data(), b"payload");
        assert_eq!((frame.headroom(), frame.tailroom()), (HEADROOM, 2048 - HEADROOM - 7));
        frame.data_mut()[0] = b'P';
        assert_eq!(frame.data(), b"Payload");
    });
}

#[test]
fn growing_ends_at_the_chunk_and_refusals_change_nothing() {
    for chunk in [2048usize, 4096] {
        with_frame(chunk as u32, |frame| {
            assert!(frame.fill_from(&[1; 60]));
            assert!(frame.prepend(HEADROOM + 1).is_none());
            assert!(frame.append(chunk - HEADROOM - 60 + 1).is_none());
            assert!(frame.prepend(usize::MAX).is_none());
            assert!(frame.append(usize::MAX).is_none());
            assert!(!frame.advance(61));
            assert_eq!((frame.headroom(), frame.data()), (HEADROOM, &[1; 60][..]));
            assert_eq!(frame.prepend(HEADROOM).unwrap().len(), HEADROOM);
            assert_eq!(frame.append(chunk - HEADROOM - 60).unwrap().len(), chunk - HEADROOM - 60);
            assert_eq!((frame.headroom(), frame.len(), frame.tailroom()), (0, chunk, 0));
        });
    }
}

#[test]
fn emptied_and_filled_again() {
    with_frame(2048, |frame| {
        assert!(frame.fill_from(&[9; 2048 - HEADROOM]), "up to the end of the chunk");
        assert!(!frame.fill_from(&[9; 2048 - HEADROOM + 1]), "one more is too long");
        assert_eq!(frame.len(), 0);
        frame.reset(2048);
        assert_eq!((frame.len(), frame.tailroom()), (0, 0));
        assert!(frame.data().is_empty());
        frame.reset(0);
        frame.truncate(10);
        assert!(frame.advance(0) && !frame.advance(1));
    });
}

#[test]
#[should_panic(expected = "a headroom beyond the chunk")]
fn a_headroom_beyond_the_chunk_is_a_defect() {
    let mut umem = Umem::new(1, 2048).unwrap();
    let mut frame = umem.alloc().unwrap();
    frame.reset(2049);
}

#[test]
fn chunks_are_distinct_and_come_back() {
    let mut umem = Umem::new(5, 2048).unwrap();
    let mut frames: Vec<_> = std::iter::from_fn(|| umem.alloc()).collect();
    assert_eq!((frames.len(), umem.available()), (5, 0));
    for (number, frame) in frames.iter_mut().enumerate() {
        frame.reset(0);
        frame.append(2048).unwrap().fill(number as u8);
    }
    for (number, frame) in frames.iter().enumerate() {
        assert!(
            frame.data().iter().all(|byte| usize::from(*byte) == number),
            "frame {number} was overwritten"
        );
    }
    assert!(umem.is_whole([], frames.len()));
    frames.into_iter().for_each(|frame| umem.free(frame));
    assert_eq!(umem.available(), 5);
}

#[test]
fn chunks_on_huge_pages_are_like_others() {
    let mut umem = match Umem::with_jumbos(2048, 4096, 1).unwrap().on_huge_pages() {
        Ok(umem) => umem,
        // A kernel before 6.1, or one without free memory in one piece.
        Err(error) => return assert!(matches!(error, Error::HugePages { .. }), "{error}"),
    };
    let mut frames: Vec<_> = std::iter::from_fn(|| umem.alloc()).collect();
    frames.extend(umem.alloc_jumbo());
    assert_eq!(frames.len(), 2049);
    frames.iter_mut().for_each(|frame| assert!(frame.data().is_empty() && frame.fill_from(b"there")));
    frames.into_iter().for_each(|frame| umem.free(frame));
    assert_eq!((umem.available(), umem.jumbos_available()), (2048, 1));
}

#[test]
fn a_frame_moves_to_another_thread() {
    let mut umem = Umem::new(1, 2048).unwrap();
    let mut frame = umem.alloc().unwrap();
    let frame = std::thread::spawn(move || {
        assert!(frame.fill_from(b"there"));
        frame
    })
    .join()
    .unwrap();
    assert_eq!(frame.data(), b"there");
    umem.free(frame);
}

#[test]
fn sizes_that_the_kernel_does_not_take_are_refused() {
    for chunk in [0, 1500, 1024, 8192] {
        let error = Umem::new(16, chunk).unwrap_err().to_string();
        assert!(error.contains(&format!("frames of {chunk} bytes")), "{error}");
    }
    assert!(Umem::new(0, 2048).unwrap_err().to_string().contains("number of frames is 0"));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "frames were lost: 1 of 2 came home")]
fn a_lost_frame_is_reported() {
    let mut umem = Umem::new(2, 2048).unwrap();
    let _lost = umem.alloc();
}
