//! How much of the machine building uses: the node comes first, but a build that a person waits for
//! finishes.

use crate::fake_geth::{FakeGeth, Fault, When};
use crate::lying_node::extend;
use crate::rig::{Spyhop, wait_for};
use std::fs;

/// The nice value and the scheduling policy of the building threads.
fn builders(process: u32) -> Option<Vec<(i32, i32)>> {
    let threads: Vec<_> = fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .filter_map(|thread| {
            // It may just have ended.
            let stat = fs::read_to_string(thread.unwrap().path().join("stat")).ok()?;
            let (name, fields) = stat.rsplit_once(") ")?;
            // From the state, the third field, on: proc(5).
            let fields: Vec<i32> =
                fields.split_whitespace().map(|field| field.parse().unwrap_or(-1)).collect();
            name.ends_with("(build").then(|| (fields[19 - 3], fields[41 - 3]))
        })
        .collect();
    (!threads.is_empty()).then_some(threads)
}

#[test]
fn building_has_idle_priority_unless_somebody_waits_for_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 250, "");
    fake.chain().finalized = Some(220);
    // The range stays unfinished, and its thread stays.
    fake.fault(Fault::Hold, When::method("debug_getRawBlock").block(50).always());
    let data = |name: &str| directory.path().join(name);
    // SAFETY: a plain system call about this thread, whose policy its children inherit.
    let own = unsafe { libc::sched_getscheduler(0) };
    let check = |command: Spyhop, nice_min: i32, expected: i32| {
        let mut running = command.args(&["--from", "0"]).spawn();
        let id = running.id();
        wait_for("threads that build, all at their priority", || {
            let is_as_expected =
                |(nice, policy): (i32, i32)| nice >= nice_min && policy == expected;
            builders(id)?.into_iter().all(is_as_expected).then_some(())
        });
        running.kill();
    };
    check(Spyhop::watch(fake.path(), &data("follow")), 0, libc::SCHED_IDLE);
    check(Spyhop::watch(fake.path(), &data("once")).args(&["--once"]), 10, own);
    check(Spyhop::backfill(fake.path(), &data("backfill")), 10, own);
}
