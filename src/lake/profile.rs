//! The files of the AWS tools: `~/.aws/credentials` and `~/.aws/config`, of which a profile's keys,
//! region and endpoint are read.

use crate::error::Refused;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Ways to get credentials that only the AWS tools know.
const ONLY_TOOLS: [&str; 6] = [
    "sso_session",
    "sso_start_url",
    "role_arn",
    "credential_process",
    "credential_source",
    "login_session",
];

/// The settings of a profile, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    name: String,
    settings: BTreeMap<String, String>,
}

impl Profile {
    /// Reads the profile that `AWS_PROFILE` names, or `default`.
    ///
    /// # Errors
    /// If a file cannot be read, or there is no such profile.
    pub(super) fn read() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let file = |name: &str, default: &str| {
            let path = set(name).map(PathBuf::from);
            path.or_else(|| Some(env::home_dir()?.join(".aws").join(default)))
        };
        let asked = set("AWS_PROFILE").map(|name| name.to_string_lossy().into_owned());
        let name = asked.clone().unwrap_or_else(|| "default".to_owned());
        // What is in both files is taken from `credentials`.
        let files =
            [file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
        let mut profile = Self { name, ..Self::default() };
        let mut is_there = false;
        for path in files.into_iter().flatten() {
            let text = match fs::read_to_string(&path) {
                Err(error) if is_absent(&error) => continue,
                text => text.with_context(|| format!("failed to read: `{}`", path.display()))?,
            };
            is_there |= profile.add(&text);
        }
        if !is_there && let Some(name) = asked {
            let what = format!("no profile `{name}` in `~/.aws/credentials` and `~/.aws/config`");
            return Err(Refused::new(what, "AWS_PROFILE says which profile is used").into());
        }
        Ok(profile)
    }

    /// Adds the profile's settings in a file. Returns whether it has such a profile.
    fn add(&mut self, text: &str) -> bool {
        let mut is_ours = false;
        let mut is_there = false;
        for line in text.lines() {
            if let Some(section) =
                line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next())
            {
                let section = section.trim();
                let name = section.strip_prefix("profile ").unwrap_or(section).trim();
                is_ours = name == self.name;
                is_there |= is_ours;
            } else if is_ours
                // Settings of one service are indented below its name.
                && !line.starts_with(char::is_whitespace)
                && !line.starts_with(['#', ';'])
                && let Some((name, value)) = line.split_once('=')
            {
                let value = value.split(" #").next().unwrap_or_default().trim();
                self.settings.insert(name.trim().to_ascii_lowercase(), value.to_owned());
            }
        }
        is_there
    }

    /// A setting that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Refuses a profile without keys whose credentials only the AWS tools can get.
    ///
    /// # Errors
    /// If it is one.
    pub(super) fn refuse_unknown(&self) -> Result<()> {
        let Some(way) = ONLY_TOOLS.into_iter().find(|way| self.get(way).is_some()) else {
            return Ok(());
        };
        let what =
            format!("profile `{}` gets its credentials by `{way}`, which is not read", self.name);
        let hint = format!(
            "let the AWS tools put them into the environment: `eval \"$(aws configure \
            export-credentials --profile {} --format env)\"`",
            self.name
        );
        Err(Refused::new(what, hint).into())
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::Profile;

    #[test]
    fn a_profile_is_its_section_in_either_file() {
        let credentials = "[default]\naws_access_key_id = A\naws_secret_access_key=s=/+\n\n\
            ; another\n[ other ]\naws_access_key_id = B # mine\n";
        let config = "[default]\nregion = eu-west-1\ns3 =\n  region = wrong\n#region = wrong\n\
            [profile other]\nregion=eu-north-1\nendpoint_url = http://127.0.0.1:9\n[profile sso]\n\
            sso_session = corp\n";
        let read = |name: &str| {
            let mut profile = Profile { name: name.to_owned(), ..Profile::default() };
            let found = [profile.add(config), profile.add(credentials)];
            (profile, found)
        };
        let check = |name: &str, setting: &str, expected: Option<&str>| {
            assert_eq!(read(name).0.get(setting), expected, "{name} {setting}");
        };
        check("default", "aws_access_key_id", Some("A"));
        check("default", "aws_secret_access_key", Some("s=/+"));
        check("default", "region", Some("eu-west-1"));
        check("default", "endpoint_url", None);
        check("other", "aws_access_key_id", Some("B"));
        check("other", "aws_secret_access_key", None);
        check("other", "region", Some("eu-north-1"));
        check("other", "endpoint_url", Some("http://127.0.0.1:9"));
        assert_eq!(read("sso").1, [true, false]);
        assert_eq!(read("none").1, [false, false]);
        assert!(read("default").0.refuse_unknown().is_ok());
        let refused = read("sso").0.refuse_unknown().expect_err("it has no keys").to_string();
        assert!(refused.contains("`sso_session`"), "{refused}");
    }
}
