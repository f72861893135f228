//! Which ranges are built next.

use spyhop::plan::Known;

/// `settled`, `tail` as intervals; the expected pieces as `first-last`, with `t` where the tail holds them.
fn check(wanted_first: u64, finalized: Option<u64>, settled: &[(u64, u64)], tail: Option<(u64, u64)>, expected: &str) {
    let known = Known { wanted_first, finalized, settled: settled.to_vec(), tail };
    let pieces: Vec<_> = known
        .pieces()
        .map(|piece| format!("{}-{}{}", piece.first, piece.last, if piece.in_tail { "t" } else { "" }))
        .collect();
    assert_eq!(pieces.join(" "), expected, "{known:?}");
}

#[test]
fn pieces_are_aligned_final_and_not_held() {
    check(0, None, &[], None, "");
    check(0, Some(98), &[], None, "");
    check(0, Some(99), &[], None, "0-99");
    check(0, Some(998), &[], None, "0-99 100-199 200-299 300-399 400-499 500-599 600-699 700-799 800-899");
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
        "0-99t 100-199t 200-299t 300-399t 400-499t 500-599t 600-699t 700-799t 800-899t 900-999t 1000-1099t 1100-1199t",
    );
    check(0, Some(1_250), &[(0, 999)], Some((1_000, 1_150)), "1000-1099t 1100-1199");
    check(0, Some(5_000), &[(0, 999)], Some((1_000, 1_010)), "1000-1999 2000-2999 3000-3999 4000-4999");
}

#[test]
fn the_tail_waits_for_the_ranges_below_it() {
    let known = |finalized, settled: &[(u64, u64)], tail| Known {
        wanted_first: 0,
        finalized: Some(finalized),
        settled: settled.to_vec(),
        tail,
    };
    assert!(known(2_000, &[], None).tail_waits());
    assert!(!known(2_000, &[(0, 1_999)], None).tail_waits());
    assert!(!known(2_050, &[(0, 1_999)], Some((2_000, 2_040))).tail_waits());
    assert!(!known(2_150, &[(0, 1_999)], Some((2_000, 2_160))).tail_waits());
    // After a long pause the tail is far below what is final: ranges are built from the node.
    assert!(known(9_000, &[(0, 1_999)], Some((2_000, 2_040))).tail_waits());
    // A gap far below does not hold up the tail.
    assert!(!known(2_050, &[(1_000, 1_999)], Some((2_000, 2_040))).tail_waits());
    assert_eq!(known(2_000, &[(0, 1_999)], None).tail_next(), 2_000);
    assert_eq!(known(2_000, &[(0, 1_999)], Some((2_000, 2_040))).tail_next(), 2_041);
}
