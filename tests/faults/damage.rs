//! Damage to files on a volume.

use std::path::{Path, PathBuf};

/// The kind of damage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    /// One bit in its middle.
    Flip,
    /// Its second half is gone.
    Truncate,
    Empty,
    Delete,
    /// It is swapped with another of its kind.
    Swap,
    /// A link to a file elsewhere with other content.
    Symlink,
    /// A directory of its name.
    Directory,
}

impl Damage {
    pub const ALL: [Self; 7] = [
        Self::Flip,
        Self::Truncate,
        Self::Empty,
        Self::Delete,
        Self::Swap,
        Self::Symlink,
        Self::Directory,
    ];

    /// Damages a file of the volume at `root`. Returns whether that changed anything.
    pub fn strike(self, root: &Path, file: &Path) -> bool {
        let path = root.join(file);
        let before = std::fs::read(&path).unwrap();
        match self {
            Self::Flip => flip(&path),
            Self::Truncate => std::fs::write(&path, &before[..before.len() / 2]).unwrap(),
            Self::Empty => std::fs::write(&path, []).unwrap(),
            Self::Delete => std::fs::remove_file(&path).unwrap(),
            Self::Swap => {
                let others = files(root)
                    .into_iter()
                    .filter(|other| other != file && kind(other) == kind(file));
                let Some(other) = others.map(|other| root.join(other)).next_back() else {
                    return false;
                };
                let aside = root.join("aside");
                std::fs::rename(&path, &aside).unwrap();
                std::fs::rename(&other, &path).unwrap();
                std::fs::rename(&aside, &other).unwrap();
            }
            Self::Symlink => {
                let elsewhere = root.with_extension("elsewhere");
                std::fs::write(&elsewhere, b"something else").unwrap();
                std::fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink(elsewhere, &path).unwrap();
            }
            Self::Directory => {
                std::fs::remove_file(&path).unwrap();
                std::fs::create_dir(&path).unwrap();
            }
        }
        std::fs::read(&path).ok() != Some(before)
    }
}

/// Flips a bit in the middle of a file.
pub fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    std::fs::write(path, bytes).unwrap();
}

/// Every file below a directory, relative to it, in order.
pub fn files(root: &Path) -> Vec<PathBuf> {
    fn visit(directory: &Path, root: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, root, all);
            } else {
                all.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let mut all = Vec::new();
    visit(root, root, &mut all);
    all.sort();
    all
}

/// A file's kind: its path without what distinguishes it from others of its kind.
pub fn kind(path: &Path) -> String {
    let mut kind = String::new();
    for part in path.to_str().expect("a path in UTF-8").split('/') {
        let is_number = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        };
        let shown = match part.split_once(['=', '.']) {
            _ if is_number(part) || part.len() == 2 && part.starts_with('g') => "#".to_owned(),
            Some((name, rest)) if is_number(rest) => format!("{name}=#"),
            Some((number, rest)) if is_number(number) && part.contains('.') => format!("#.{rest}"),
            _ => part
                .split_once('-')
                .filter(|(name, _)| ["range", "merge", "chunk"].contains(name))
                .map_or(part, |(name, _)| name)
                .to_owned(),
        };
        kind.push('/');
        kind.push_str(&shown);
    }
    kind.split_off(1)
}
