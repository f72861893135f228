//! Which ranges are built next.

use super::{Known, Order, Piece, Source};

/// Checks the expected pieces, in the format of [`shown`], given `settled` and `tail` as intervals.
fn check(
    requested_first: u64,
    finalized: Option<u64>,
    settled: &[(u64, u64)],
    tail: Option<(u64, u64)>,
    expected: &str,
) {
    let known =
        Known { requested_first, finalized, settled: settled.to_vec(), tail, ..Known::default() };
    assert_eq!(shown(known.pieces()), expected, "{known:?}");
}

/// Pieces as `first-last`, with `t` if they come from the tail and `f` from the freezer.
fn shown(pieces: impl Iterator<Item = Piece>) -> String {
    let source = |piece: &Piece| match piece.source {
        Source::Tail => "t",
        Source::Freezer => "f",
        Source::Node => "",
    };
    pieces
        .map(|piece| format!("{}-{}{}", piece.first, piece.last, source(&piece)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn pieces_are_aligned_final_and_not_stored() {
    check(0, None, &[], None, "");
    check(0, Some(98), &[], None, "");
    check(0, Some(99), &[], None, "0-99");
    check(
        0,
        Some(998),
        &[],
        None,
        "0-99 100-199 200-299 300-399 400-499 500-599 600-699 700-799 800-899",
    );
    check(0, Some(999), &[], None, "0-999");
    check(0, Some(2_150), &[], None, "0-999 1000-1999 2000-2099");
    check(800, Some(2_150), &[], None, "800-899 900-999 1000-1999 2000-2099");
    check(0, Some(2_150), &[(0, 999)], None, "1000-1999 2000-2099");
    check(0, Some(2_150), &[(1_000, 1_999)], None, "0-999 2000-2099");
    check(
        0,
        Some(1_299),
        &[(100, 199), (1_000, 1_099)],
        None,
        "0-99 200-299 300-399 400-499 500-599 600-699 700-799 800-899 900-999 1100-1199 1200-1299",
    );
    check(500, Some(1_000), &[(0, 999)], None, "");
    check(0, Some(50), &[(0, 99)], None, "");
}

#[test]
fn pieces_in_the_tail_are_sealed_from_it_in_hundreds() {
    check(0, Some(250), &[], Some((0, 300)), "0-99t 100-199t");
    check(
        0,
        Some(1_250),
        &[],
        Some((0, 1_300)),
        "0-99t 100-199t 200-299t 300-399t 400-499t 500-599t 600-699t 700-799t 800-899t 900-999t \
         1000-1099t 1100-1199t",
    );
    check(0, Some(1_250), &[(0, 999)], Some((1_000, 1_150)), "1000-1099t 1100-1199");
    check(
        0,
        Some(5_000),
        &[(0, 999)],
        Some((1_000, 1_010)),
        "1000-1999 2000-2999 3000-3999 4000-4999",
    );
}

#[test]
fn the_tail_waits_for_the_ranges_below_it() {
    let known = |finalized, settled: &[(u64, u64)], tail| Known {
        requested_first: 0,
        finalized: Some(finalized),
        settled: settled.to_vec(),
        tail,
        ..Known::default()
    };
    assert!(known(2_000, &[], None).tail_waits());
    assert!(!known(2_000, &[(0, 1_999)], None).tail_waits());
    assert!(!known(2_050, &[(0, 1_999)], Some((2_000, 2_040))).tail_waits());
    assert!(!known(2_150, &[(0, 1_999)], Some((2_000, 2_160))).tail_waits());
    // After a long pause the tail is far below the finalized block: ranges are built from the node.
    assert!(known(9_000, &[(0, 1_999)], Some((2_000, 2_040))).tail_waits());
    // A gap far below does not delay the tail.
    assert!(!known(2_050, &[(1_000, 1_999)], Some((2_000, 2_040))).tail_waits());
    assert_eq!(known(2_000, &[(0, 1_999)], None).tail_next(), 2_000);
    assert_eq!(known(2_000, &[(0, 1_999)], Some((2_000, 2_040))).tail_next(), 2_041);
}

#[test]
fn a_thousand_comes_out_of_one_source_or_in_hundreds() {
    let check = |frozen, tail, expected: &str| {
        let known =
            Known { finalized: Some(2_350), in_freezer: vec![frozen], tail, ..Known::default() };
        assert_eq!(shown(known.pieces()), expected, "{known:?}");
    };
    check((0, 2_350), None, "0-999f 1000-1999f 2000-2099f 2100-2199f 2200-2299f");
    check((0, 2_150), None, "0-999f 1000-1999f 2000-2099f 2100-2199 2200-2299");
    // A freezer that ends within a hundred has nothing of it.
    check((0, 1_050), None, "0-999f 1000-1999 2000-2099 2100-2199 2200-2299");
    // One that was pruned up to a block begins with the next hundred.
    check(
        (750, 1_999),
        None,
        &format!(
            "{} 1000-1999f 2000-2099 2100-2199 2200-2299",
            hundreds(0..8, "") + " 800-899f 900-999f"
        ),
    );
    check(
        (0, 2_350),
        Some((1_800, 2_400)),
        &format!(
            "0-999f {} 1800-1899t 1900-1999t 2000-2099t 2100-2199t 2200-2299t",
            hundreds(10..18, "f")
        ),
    );
}

fn hundreds(range: std::ops::Range<u64>, source: &str) -> String {
    range
        .map(|hundred| format!("{}-{}{source}", hundred * 100, hundred * 100 + 99))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn newest_first_is_the_same_pieces_from_the_top() {
    let check = |wanted: (u64, Option<u64>), settled: &[(u64, u64)], expected: &str| {
        let known = |order| Known {
            requested_first: wanted.0,
            requested_last: wanted.1,
            finalized: Some(3_350),
            settled: settled.to_vec(),
            order,
            ..Known::default()
        };
        assert_eq!(shown(known(Order::NewestFirst).pieces()), expected);
        let sorted = |order| {
            let mut pieces: Vec<_> =
                known(order).pieces().map(|piece| (piece.first, piece.last)).collect();
            pieces.sort_unstable();
            pieces
        };
        assert_eq!(sorted(Order::NewestFirst), sorted(Order::OldestFirst));
    };
    check((0, None), &[], "3200-3299 3100-3199 3000-3099 2000-2999 1000-1999 0-999");
    check((800, None), &[], "3200-3299 3100-3199 3000-3099 2000-2999 1000-1999 900-999 800-899");
    check((0, Some(2_199)), &[], "2100-2199 2000-2099 1000-1999 0-999");
    check((0, Some(9_999)), &[], "3200-3299 3100-3199 3000-3099 2000-2999 1000-1999 0-999");
    // Blocks above everything stored come first, from the bottom: the tail waits for them.
    check((0, None), &[(1_000, 1_999)], "2000-2999 3000-3099 3100-3199 3200-3299 0-999");
    check((0, None), &[(1_000, 1_999), (3_200, 3_299)], "3100-3199 3000-3099 2000-2999 0-999");
    check((5_000, None), &[], "");
}

#[test]
fn the_tail_waits_for_history_only_where_it_is_built_upwards() {
    let known = |order| Known { finalized: Some(3_350), order, ..Known::default() };
    assert!(known(Order::OldestFirst).tail_waits());
    assert_eq!(known(Order::OldestFirst).tail_next(), 0);
    assert!(!known(Order::NewestFirst).tail_waits());
    assert_eq!(known(Order::NewestFirst).tail_next(), 3_300);
    // After a long pause the blocks between come first.
    let paused = Known { settled: vec![(1_000, 1_999)], ..known(Order::NewestFirst) };
    assert!(paused.tail_waits());
    assert_eq!(paused.tail_next(), 2_000);
}

#[test]
fn pieces_in_progress_are_not_planned_again_and_are_waited_for() {
    let in_progress = |pieces: &[Piece]| Known {
        finalized: Some(2_999),
        in_freezer: vec![(0, 2_999)],
        in_progress: pieces.to_vec(),
        ..Known::default()
    };
    let piece = |first, last| Piece { first, last, source: Source::Freezer };
    let known = in_progress(&[piece(0, 999)]);
    assert_eq!(shown(known.pieces()), "1000-1999f 2000-2999f");
    let known = in_progress(&[piece(1_000, 1_999), piece(0, 999), piece(2_000, 2_999)]);
    assert_eq!(shown(known.pieces()), "");
    assert_eq!(known.tail_next(), 0);
    assert!(known.tail_waits());
    let sealing = Known {
        tail: Some((0, 3_100)),
        ..in_progress(&[Piece { source: Source::Tail, ..piece(0, 99) }])
    };
    assert!(!sealing.tail_waits());
}

#[test]
fn ranges_that_lack_a_table_are_built_again_as_they_are() {
    let known = Known {
        finalized: Some(15_000),
        in_freezer: vec![(0, 12_000)],
        settled: vec![(0, 9_999), (10_000, 14_999)],
        lacking: vec![(0, 9_999), (12_000, 12_999), (14_900, 14_999)],
        in_progress: vec![Piece { first: 14_900, last: 14_999, source: Source::Node }],
        ..Known::default()
    };
    assert_eq!(shown(known.pieces()), "");
    assert_eq!(shown(known.additions()), "0-9999f 12000-12999");
}

#[test]
fn planning_ends_for_any_numbers_of_a_node() {
    for number in [1 << 40, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
        for order in [Order::OldestFirst, Order::NewestFirst] {
            for (settled, tail) in [
                (vec![], None),
                (vec![(0, 999)], Some((1_000, 1_350))),
                (vec![(0, 999), (number - 99, number)], None),
                (vec![], Some((number - 5, number))),
            ] {
                for requested_first in [0, 300, number / 100 * 100] {
                    let requested_last = [None, Some(number)];
                    for requested_last in requested_last {
                        let settled = settled.clone();
                        let finalized = Some(number);
                        let frozen = vec![(0, 500), (number - 1, number)];
                        let known = Known {
                            requested_first,
                            requested_last,
                            finalized,
                            in_freezer: frozen,
                            settled,
                            tail,
                            order,
                            ..Known::default()
                        };
                        // Only the first few: there may be very many.
                        assert!(
                            known.pieces().take(3).all(|piece| piece.first <= piece.last),
                            "{known:?}"
                        );
                        known.tail_waits();
                        known.tail_next();
                        assert!(known.blocks_left() <= number, "{known:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_left_are_those_of_all_pieces() {
    for (finalized, settled) in [
        (0, vec![]),
        (12_345, vec![]),
        (9_999, vec![(0, 999), (5_000, 5_099)]),
        (250, vec![(100, 199)]),
    ] {
        for requested_first in [0, 100, 1_300, 20_000] {
            let known = Known {
                requested_first,
                finalized: Some(finalized),
                settled: settled.clone(),
                ..Known::default()
            };
            let sum: u64 = known.pieces().map(|piece| piece.last - piece.first + 1).sum();
            assert_eq!(known.blocks_left(), sum, "{known:?}");
            let waits = known
                .pieces()
                .any(|piece| piece.source != Source::Tail && piece.last >= known.tail_next());
            assert_eq!(known.tail_waits(), waits, "{known:?}");
        }
    }
}

#[test]
fn damaged_ranges_are_built_again_as_they_were_and_before_long_work() {
    let damaged = vec![(0, 9_999), (12_000, 12_999)];
    let settled = vec![(0, 9_999), (10_000, 14_999)];
    let known = |finalized, tail| Known {
        finalized: Some(finalized),
        damaged: damaged.clone(),
        settled: settled.clone(),
        tail,
        ..Known::default()
    };
    let held = known(15_000, Some((15_000, 15_020)));
    assert_eq!(
        (shown(held.pieces()), shown(held.rebuilds())),
        (String::new(), "0-9999 12000-12999".to_owned())
    );
    assert!(held.rebuilds_first());
    // The head is followed first, if that takes little.
    assert!(!known(15_250, Some((15_000, 15_020))).rebuilds_first());
    assert!(known(90_000, Some((15_000, 15_020))).rebuilds_first());
    // Blocks that are not final are not sealed, whatever was stored before.
    assert_eq!(shown(known(12_500, None).rebuilds()), "0-9999");
}

#[test]
fn a_piece_partly_in_the_tail_is_completed_from_the_node() {
    let known = |tail| Known {
        finalized: Some(2_350),
        in_freezer: vec![(0, 2_350)],
        settled: vec![(0, 999)],
        tail,
        ..Known::default()
    };
    assert_eq!(
        shown(known(Some((1_000, 1_040))).pieces()),
        "1000-1999 2000-2099f 2100-2199f 2200-2299f"
    );
    assert_eq!(
        shown(known(Some((1_000, 1_140))).pieces()),
        format!("1000-1099t 1100-1199 {} 2000-2099f 2100-2199f 2200-2299f", hundreds(12..20, "f"))
    );
}
