//! The program as a helper of mount(8), which calls it as `mount.fuse.okapi SOURCE DIR [-sfnv] [-o options]`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::daemon;
use super::mount::free_mountpoint;
use super::options::Options;
use super::outcome::{Failure, complain};
use super::plan::Plan;

/// Exit codes that mount(8) knows.
const EXIT_USAGE: u8 = 1;
const EXIT_MOUNT_FAILED: u8 = 32;

const USAGE: &str = "usage: mount.fuse.okapi SOURCE DIRECTORY [-sfnv] [-o OPTIONS]\n\
    hint: this is for `mount -t fuse.okapi` and fstab; people use `okapi mount`";

/// What mount(8) asks for.
#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    source: String,
    mountpoint: PathBuf,
    options: Vec<String>,
    sloppy: bool,
    fake: bool,
}

/// The arguments, where the program was called under one of the helper's names.
pub(super) fn invocation() -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os();
    let name = PathBuf::from(arguments.next()?);
    let name = name.file_name()?.to_str()?;
    matches!(name, "mount.fuse.okapi" | "mount.okapi").then(|| arguments.collect())
}

/// Mounts as mount(8) asks for it.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    match parse(arguments)
        .map_err(Failure::Usage)
        .and_then(|invocation| mount(&invocation))
    {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            complain(&message);
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Failed(error)) => {
            complain(&error);
            ExitCode::from(EXIT_MOUNT_FAILED)
        }
        Err(Failure::Reported(_)) => ExitCode::from(EXIT_MOUNT_FAILED),
    }
}

fn mount(invocation: &Invocation) -> Result<(), Failure> {
    let mut options = Options::default();
    for list in &invocation.options {
        options.parse(list, invocation.sloppy).map_err(Failure::Usage)?;
    }
    let plan = Plan::new(&options, invocation.source.clone())?;
    let mountpoint = free_mountpoint(&invocation.mountpoint)?;
    match invocation.fake {
        true => Ok(()),
        false => daemon::start(&plan, &mountpoint).map(drop),
    }
}

fn parse(arguments: &[OsString]) -> Result<Invocation, String> {
    let mut places = Vec::new();
    let mut options = Vec::new();
    let (mut sloppy, mut fake) = (false, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            places.push(argument);
            continue;
        };
        for (at, letter) in letters.char_indices() {
            match letter {
                's' => sloppy = true,
                'f' => fake = true,
                'n' | 'v' => {}
                // The value is the rest of the word, or the next one. The type and the namespace are mount(8)'s.
                'o' | 't' | 'N' => {
                    let value = match &letters[at + 1..] {
                        "" => rest.next().ok_or(USAGE)?.to_string_lossy().into_owned(),
                        value => value.to_owned(),
                    };
                    if letter == 'o' {
                        options.push(value);
                    }
                    break;
                }
                _ => return Err(format!("unknown flag -{letter}\n{USAGE}")),
            }
        }
    }
    let [source, mountpoint] = places.as_slice() else {
        return Err(USAGE.into());
    };
    Ok(Invocation {
        source: source.to_string_lossy().into_owned(),
        mountpoint: Path::new(mountpoint).to_owned(),
        options,
        sloppy,
        fake,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Invocation, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        parse(&arguments)
    }

    #[test]
    fn the_calls_of_mount_are_understood() {
        let expected = Invocation {
            source: "okapi".into(),
            mountpoint: "/mnt/ram".into(),
            options: vec!["rw,size=2G".into()],
            sloppy: false,
            fake: false,
        };
        let calls: [&[&str]; 3] = [
            &["okapi", "/mnt/ram", "-o", "rw,size=2G"],
            &["okapi", "/mnt/ram", "-n", "-orw,size=2G", "-t", "fuse.okapi"],
            &["-vo", "rw,size=2G", "-N", "/proc/1/ns/mnt", "okapi", "/mnt/ram"],
        ];
        for call in calls {
            assert_eq!(parsed(call).as_ref(), Ok(&expected), "{call:?}");
        }
        assert!(parsed(&["okapi", "/mnt/ram", "-sf"]).is_ok_and(|call| call.sloppy && call.fake));
    }

    #[test]
    fn other_calls_are_answered_with_the_usage() {
        let calls: [&[&str]; 5] = [
            &[],
            &["okapi"],
            &["a", "b", "c"],
            &["okapi", "/mnt/ram", "-o"],
            &["okapi", "/mnt/ram", "-x"],
        ];
        for call in calls {
            assert!(
                parsed(call).is_err_and(|message| message.contains("usage:")),
                "{call:?}"
            );
        }
    }
}
