//! The invariants of the design that the source itself shows.

use std::fs;
use std::path::{Path, PathBuf};

/// The stages in the order of the flow, as `src/lib.rs` lists them.
fn stages() -> Vec<String> {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let stages: Vec<_> =
        lib.lines().filter_map(|line| Some(line.strip_prefix("//! - [`")?.split_once('`')?.0.to_owned())).collect();
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
            assert!(path.is_file(), "{} is nested deeper than a stage's folder", path.display());
            files.push(path);
        }
    }
    files
}

/// The stages that a source text names by `crate::STAGE`.
fn used(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn a_stage_uses_only_itself_and_stages_before_it() {
    let stages = stages();
    let mut uses = 0;
    for (index, stage) in stages.iter().enumerate() {
        for file in files(stage) {
            for name in used(&fs::read_to_string(&file).unwrap()) {
                let at = stages.iter().position(|other| *other == name);
                let at = at.unwrap_or_else(|| panic!("{} uses crate::{name}, which is no stage", file.display()));
                assert!(at <= index, "{} uses {name}, which comes after {stage}", file.display());
                uses += 1;
            }
        }
    }
    assert!(uses > 30, "only {uses} uses were found: the search is broken");
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
    let forbidden =
        ["std::fs", "std::net", "std::env", "std::process", "tokio", "SystemTime", "Instant::", "tracing", "duckdb"];
    for stage in ["decode", "prove", "rows", "plan"] {
        for file in files(stage) {
            let text = fs::read_to_string(&file).unwrap();
            let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            for word in forbidden {
                assert!(!code.iter().any(|line| line.contains(word)), "{} uses {word}", file.display());
            }
        }
    }
}
