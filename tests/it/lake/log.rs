//! A Delta table as its protocol describes it, read without spyhop.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A Delta table in a directory.
pub struct Table {
    directory: PathBuf,
    /// The lines of each version.
    pub versions: Vec<Vec<Value>>,
}

/// A data file of a version.
#[derive(Clone, Debug)]
pub struct File {
    pub path: PathBuf,
    pub add: Value,
    pub stats: Value,
}

impl File {
    fn new(directory: &Path, add: &Value) -> Self {
        let name = add["path"].as_str().unwrap();
        assert!(name.is_ascii() && !name.contains(['/', '%', ' ']), "{name} needs no encoding");
        let stats = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
        Self { path: directory.join(name), add: add.clone(), stats }
    }

    /// First and last block, as its name says.
    pub fn blocks(&self) -> (u64, u64) {
        let name = self.add["path"].as_str().unwrap();
        (name[..10].parse().unwrap(), name[11..21].parse().unwrap())
    }

    /// Its number of rows, as the log says.
    pub fn rows(&self) -> u64 {
        self.stats["numRecords"].as_u64().unwrap()
    }

    /// Blocks, length, rows and BLAKE3.
    pub fn key(&self) -> (u64, u64, u64, u64, String) {
        let (first, last) = self.blocks();
        let hash = self.add["tags"]["blake3"].as_str().unwrap().to_owned();
        (first, last, self.add["size"].as_u64().unwrap(), self.rows(), hash)
    }
}

impl Table {
    /// Reads the whole log, which must have no hole.
    #[track_caller]
    pub fn new(directory: &Path) -> Self {
        let mut versions = Vec::new();
        let names = fs::read_dir(directory.join("_delta_log")).map_or(0, |entries| {
            let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
            entries.map(name).filter(|name| name.to_str().unwrap().ends_with(".json")).count()
        });
        for version in 0..names {
            let path = directory.join(format!("_delta_log/{version:020}.json"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| {
                panic!("{} of {names} versions: {error}", path.display());
            });
            versions.push(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
        }
        Self { directory: directory.to_owned(), versions }
    }

    /// The actions of one kind in a version.
    pub fn actions<'a>(&'a self, version: usize, kind: &'a str) -> Vec<&'a Value> {
        self.versions[version].iter().filter_map(|action| action.get(kind)).collect()
    }

    /// Every version's data files, ascending.
    pub fn states(&self) -> Vec<Vec<File>> {
        let mut files: BTreeMap<String, Value> = BTreeMap::new();
        let mut states = Vec::new();
        for version in 0..self.versions.len() {
            for remove in self.actions(version, "remove") {
                let path = remove["path"].as_str().unwrap();
                let known = files.remove(path);
                let known = known.unwrap_or_else(|| panic!("version {version} removes {path}"));
                assert_eq!(known["size"], remove["size"]);
                assert!(remove["deletionTimestamp"].as_u64() > Some(1_700_000_000_000));
            }
            for add in self.actions(version, "add") {
                let path = add["path"].as_str().unwrap().to_owned();
                let known = files.insert(path.clone(), add.clone());
                assert!(known.is_none(), "version {version} adds {path} again");
            }
            states.push(files.values().map(|add| File::new(&self.directory, add)).collect());
        }
        states
    }

    /// The files of the newest version.
    pub fn newest(&self) -> Vec<File> {
        self.states().pop().expect("there is a version")
    }
}

/// Requires that every version ever committed reads whole: each file is there, in its length; no
/// block is in two files, and none that an earlier version held is missing. Returns how many
/// versions there are.
#[track_caller]
pub fn whole(lake: &Path, tables: &[&str]) -> usize {
    let mut count = 0;
    for name in tables {
        let table = Table::new(&lake.join(name));
        let mut before: Vec<(u64, u64)> = Vec::new();
        for (version, files) in table.states().iter().enumerate() {
            count += 1;
            let mut covered: Vec<(u64, u64)> = Vec::new();
            for file in files {
                let found = fs::metadata(&file.path)
                    .unwrap_or_else(|error| panic!("{name} {version}: {:?}: {error}", file.path));
                assert_eq!(Some(found.len()), file.add["size"].as_u64(), "{name} {version}");
                let (first, last) = file.blocks();
                match covered.last_mut() {
                    Some((_, top)) if *top >= first => {
                        panic!("{name} {version}: block {first} is in two files")
                    }
                    Some((_, top)) if *top + 1 == first => *top = last,
                    _ => covered.push((first, last)),
                }
            }
            for (first, last) in &before {
                assert!(
                    covered.iter().any(|(bottom, top)| bottom <= first && last <= top),
                    "{name} {version}: blocks {first}-{last} are gone: {covered:?}"
                );
            }
            before = covered;
        }
    }
    count
}
