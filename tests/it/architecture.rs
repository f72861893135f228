//! Invariants of the design that can be checked in the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The stages in the order of the flow, as `src/lib.rs` lists them.
fn stages() -> Vec<String> {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let stages: Vec<_> = lib
        .lines()
        .filter_map(|line| Some(line.strip_prefix("//! - [`")?.split_once('`')?.0.to_owned()))
        .collect();
    assert!(stages.len() >= 10, "src/lib.rs lists the stages: {stages:?}");
    stages
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The files of a stage.
fn files(stage: &str) -> Vec<PathBuf> {
    let mut files = vec![source().join(format!("{stage}.rs"))];
    if let Ok(entries) = fs::read_dir(source().join(stage)) {
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Files of the page, none of them a module.
                let all = crate::rig::process::listing(&path);
                let modules = all.iter().any(|(file, _)| file.extension() == Some("rs".as_ref()));
                assert!(!modules, "{} is nested deeper than a stage's folder", path.display());
                continue;
            }
            files.push(path);
        }
    }
    files
}

/// A source text without its comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The names that a source text uses below a path: both `a` and `b` for `path::a::X` as for
/// `path::{a, b::{X, Y}}`.
fn used(text: &str, path: &str) -> Vec<String> {
    let name = |text: &str| {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = Vec::new();
    for rest in code(text).split(path).skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.push(name(rest));
            continue;
        };
        let (mut depth, mut start) = (1, 0);
        for (at, c) in group.char_indices() {
            depth = match c {
                '{' => depth + 1,
                '}' => depth - 1,
                _ => depth,
            };
            if depth == 0 || (depth == 1 && c == ',') {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

/// What each file below a stage's folder uses of the others there, by `super::file` or
/// `crate::stage::file`, or by a name that the stage's own file re-exports from one of them.
fn uses_within(stage: &str) -> BTreeMap<String, BTreeSet<String>> {
    let texts: BTreeMap<_, _> = files(stage)
        .into_iter()
        .skip(1)
        .map(|file| {
            (
                file.file_stem().unwrap().to_str().unwrap().to_owned(),
                fs::read_to_string(&file).unwrap(),
            )
        })
        .collect();
    let own = code(&fs::read_to_string(source().join(format!("{stage}.rs"))).unwrap());
    let mut exported = BTreeMap::new();
    for statement in own.split(" use ").skip(1) {
        let Some((file, names)) = statement.split(';').next().unwrap().split_once("::") else {
            continue;
        };
        let names = names
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|name| !name.is_empty());
        exported.extend(names.map(|name| (name.to_owned(), file.trim().to_owned())));
    }
    let file_of = |name: String| {
        exported.get(&name).filter(|_| !texts.contains_key(&name)).cloned().unwrap_or(name)
    };
    let uses = |(file, text): (&String, &String)| {
        let names =
            used(text, "super::").into_iter().chain(used(text, &format!("crate::{stage}::")));
        let others =
            names.map(file_of).filter(|name| name != file && texts.contains_key(name)).collect();
        (file.clone(), others)
    };
    texts.iter().map(uses).collect()
}

#[test]
fn a_stage_uses_only_itself_and_stages_before_it() {
    let stages = stages();
    let mut uses = 0;
    for (index, stage) in stages.iter().enumerate() {
        for file in files(stage) {
            for name in used(&fs::read_to_string(&file).unwrap(), "crate::") {
                let at = stages.iter().position(|other| *other == name);
                let at = at.unwrap_or_else(|| {
                    panic!("{} uses crate::{name}, which is no stage", file.display())
                });
                assert!(at <= index, "{} uses {name}, which comes after {stage}", file.display());
                uses += 1;
            }
        }
    }
    assert!(uses > 30, "only {uses} uses were found: the search is broken");
}

/// A stage's own file does not count: it declares the others, and contains what they share.
#[test]
fn files_of_a_stage_do_not_use_each_other_in_circles() {
    let mut uses_count = 0;
    for stage in stages() {
        let mut uses = uses_within(&stage);
        uses_count += uses.values().map(BTreeSet::len).sum::<usize>();
        // A file that uses no remaining file is in no circle.
        while let Some(leaf) =
            uses.iter().find(|(_, used)| used.is_empty()).map(|(file, _)| file.clone())
        {
            uses.remove(&leaf);
            for used in uses.values_mut() {
                used.remove(&leaf);
            }
        }
        // Nor is a file that no remaining file uses.
        while let Some(top) =
            uses.keys().find(|file| !uses.values().any(|used| used.contains(*file))).cloned()
        {
            uses.remove(&top);
        }
        assert!(uses.is_empty(), "files of {stage} use each other in circles: {uses:?}");
    }
    assert!(uses_count > 100, "only {uses_count} uses were found: the search is broken");
}

#[test]
fn every_source_file_belongs_to_a_listed_stage() {
    let stages = stages();
    for entry in fs::read_dir(source()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(
            stages.contains(&name) || name == "lib" || name == "main",
            "{} is not listed in src/lib.rs",
            path.display()
        );
    }
}

#[test]
fn the_middle_does_no_input_or_output() {
    let forbidden = [
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "tokio",
        "SystemTime",
        "Instant::",
        "tracing",
        "duckdb",
    ];
    for stage in ["decode", "prove", "rows", "plan"] {
        for file in files(stage) {
            let code = code(&fs::read_to_string(&file).unwrap());
            for word in forbidden {
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}
