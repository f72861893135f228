//! Address labels: the built-in list, the operator's file, and its changes.

use crate::fake_geth::FakeGeth;
use crate::lying_node::extend;
use crate::rig::process::until;
use crate::rig::{Published, Spyhop};
use std::fs;

#[test]
fn labels_of_the_operator_are_read_again_when_they_change_and_bad_lines_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("labels.csv"));
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 20, "");
    let exchange = "0x00000000000000000000000000000000000000AA";
    let lines = [
        "address,name,category",
        "# a remark",
        &format!("{exchange},\"Exchange, hot\",exchange"),
        "0x00000000000000000000000000000000000000bb,Fund,",
        "0x0000000000000000000000000000000000000001,My own name,test",
        "nonsense,name,category",
        "0x00000000000000000000000000000000000000cc",
        &format!("{},Again,exchange", exchange.to_lowercase()),
        "0x00000000000000000000000000000000000000dd,a,b,c",
    ];
    fs::write(
        &file,
        [lines.join("\n").as_bytes(), b"\n0x00000000000000000000000000000000000000ee,\xff,b\n"]
            .concat(),
    )
    .unwrap();
    let watch = || Spyhop::watch(fake.path(), &data).args(&["--from", "0"]).path("--labels", &file);
    let mut running = watch().spawn();
    for (line, reason) in [
        (6, "it does not begin with an address"),
        (7, "it has no name"),
        (8, "the address has a name already"),
        (9, "it has more than three fields"),
        (10, "it is not UTF-8"),
    ] {
        running.wait_for(&["label skipped", &format!("line={line}"), reason]);
    }
    let names = || {
        let found = Published::try_open(&data).ok()?;
        let rows = found
            .try_rows("SELECT * FROM labels WHERE source = 'labels file' ORDER BY address")
            .ok()?;
        let text = |name: &'static str| {
            move |row: &crate::rig::published::Row| row[name].clone().unwrap_or_default()
        };
        Some(
            rows.iter()
                .map(|row| {
                    [text("address")(row), text("name")(row), text("category")(row)].join("|")
                })
                .collect::<Vec<_>>(),
        )
    };
    let expected = vec![
        "0x0000000000000000000000000000000000000001|My own name|test".to_owned(),
        "0x00000000000000000000000000000000000000aa|Exchange, hot|exchange".to_owned(),
        "0x00000000000000000000000000000000000000bb|Fund|".to_owned(),
    ];
    until(&mut running, "the labels", || (names()? == expected).then_some(()));
    let found = Published::open(&data);
    // The built-in list: one name each, and the operator's replaces it.
    assert_eq!(
        found.number("SELECT count(*) FROM labels"),
        found.number("SELECT count(DISTINCT address) FROM labels")
    );
    let zero = "SELECT category || ' ' || name
        FROM labels
        WHERE address = '0x0000000000000000000000000000000000000000'";
    assert_eq!(found.value(zero).as_deref(), Some("burn Zero address"));
    assert_eq!(found.number("SELECT count(*) FROM labels WHERE category = 'system'"), 7);
    assert_eq!(found.number("SELECT count(*) FROM labels WHERE category = 'precompile'"), 17);

    // Changed while it runs, with no new block; and deleted: then they stay.
    fs::write(&file, format!("{exchange},Renamed,exchange\n")).unwrap();
    let renamed = vec!["0x00000000000000000000000000000000000000aa|Renamed|exchange".to_owned()];
    until(&mut running, "the changed labels", || (names()? == renamed).then_some(()));
    fs::remove_file(&file).unwrap();
    extend(&fake, 25, "");
    until(&mut running, "block 25", || {
        (Published::try_open(&data).ok()?.head()?.0 == 25).then_some(())
    });
    assert_eq!(names().unwrap(), renamed);
    running.stop();
    let error = watch().fail(2);
    assert!(error.contains("labels cannot be read") && error.contains("labels.csv"), "{error}");
}

#[test]
fn a_bad_line_of_labels_affects_no_other_line() {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("labels.csv"));
    let fake = FakeGeth::start(directory.path());
    extend(&fake, 3, "");
    let address = |number: usize| format!("0x{number:040x}");
    let long = "x".repeat(5_000);
    let lines: Vec<Vec<u8>> = vec![
        "\u{feff}Address,Name,Category\r".into(),
        format!("{},\"never closed,exchange\r", address(2)).into(),
        format!("{},Plain,\r", address(3)).into(),
        format!("{},\"Exchange, \"\"hot\"\"\" , exchange\r", address(4)).into(),
        format!("{},\"closed\" too early,x", address(5)).into(),
        format!("{},{long},x", address(6)).into(),
        format!("{},\"{long}\"{long},x", address(7)).into(),
        "".into(),
        "  ".into(),
        format!("{};semicolons;x", address(10)).into(),
        [address(11).as_bytes(), b",\xff\xfe,x"].concat(),
        "address,name,category".into(),
        format!("{},\"two", address(13)).into(),
        "lines\",x".into(),
        format!("{},in \"the\" middle\t,x", address(15)).into(),
        format!("{},\x1b[31mred\u{202e},x", address(16)).into(),
        format!("{},\"last is never closed either", address(17)).into(),
    ];
    fs::write(&file, lines.join(&b'\n')).unwrap();
    let watch = || {
        Spyhop::watch(fake.path(), &data).args(&["--from", "0", "--once"]).path("--labels", &file)
    };
    let log = crate::rig::process::stderr_of(&watch().run());
    for (line, reason) in [
        (2, "a quote is not closed on its line"),
        (5, "text follows a closing quote"),
        (6, "it is too long"),
        (7, "it is too long"),
        (10, "it does not begin with an address"),
        (11, "it is not UTF-8"),
        (12, "it does not begin with an address, it looks like a heading"),
        (13, "a quote is not closed on its line"),
        (14, "it does not begin with an address"),
        (17, "a quote is not closed on its line"),
    ] {
        let is_it = |text: &str| text.contains(&format!("line={line} ")) && text.contains(reason);
        assert!(log.lines().any(is_it), "line {line}: {reason}: {log}");
    }
    assert_eq!(log.matches("label skipped").count(), 10, "{log}");
    let own =
        "SELECT address, name, category FROM labels WHERE source = 'labels file' ORDER BY address";
    let own = Published::open(&data).rows(own);
    let own: Vec<_> = own
        .iter()
        .map(|row| (row["address"].clone().unwrap(), row["name"].clone().unwrap()))
        .collect();
    let expected = [
        (3, "Plain"),
        (4, "Exchange, \"hot\""),
        (15, "in \"the\" middle"),
        (16, "\x1b[31mred\u{202e}"),
    ];
    assert_eq!(own, expected.map(|(number, name)| (address(number), name.to_owned())));

    // A pipe can be read only once, and may have no writer.
    for (path, name) in [("/dev/null", "null"), (data.to_str().unwrap(), "data")] {
        let error = Spyhop::watch(fake.path(), &data).path("--labels", path.as_ref()).fail(2);
        assert!(error.contains("it is not a file") && error.contains(name), "{error}");
    }
}

#[test]
fn lines_of_labels_end_as_any_system_ends_them() {
    for end in ["\n", "\r\n", "\r"] {
        let directory = tempfile::tempdir().unwrap();
        let (data, file) = (directory.path().join("data"), directory.path().join("labels.csv"));
        let fake = FakeGeth::start(directory.path());
        extend(&fake, 3, "");
        let lines = [
            "address,name",
            "# a remark",
            "",
            &format!("0x{:040x},One", 1),
            "none",
            &format!("0x{:040x},\"Two\"", 2),
        ];
        fs::write(&file, lines.join(end)).unwrap();
        let watch = Spyhop::watch(fake.path(), &data)
            .args(&["--from", "0", "--once"])
            .path("--labels", &file);
        let log = crate::rig::process::stderr_of(&watch.run());
        assert!(log.contains("line=5"), "{end:?}: {log}");
        let own = "SELECT string_agg(name, ' ' ORDER BY address)
            FROM labels
            WHERE source = 'labels file'";
        assert_eq!(Published::open(&data).value(own).as_deref(), Some("One Two"), "{end:?}");
    }
}
