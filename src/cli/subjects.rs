//! Paths on drives, as these are asked about them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mounts::{self, Mount};
use crate::error::Result;
use crate::serve::control::SubjectRequest;

/// What is asked of one drive: positions of the paths, and how the drive finds them.
pub(super) struct Questions {
    pub(super) drive: Mount,
    pub(super) positions: Vec<usize>,
    pub(super) subjects: Vec<SubjectRequest>,
}

/// Which drives are to be asked about the paths; symbolic links are not followed.
pub(super) fn by_drive(paths: &[PathBuf]) -> Result<Vec<Questions>> {
    let mut drives: BTreeMap<u64, Questions> = BTreeMap::new();
    for (position, path) in paths.iter().enumerate() {
        let metadata = mounts::look_at(path)?;
        let questions = match drives.get_mut(&metadata.dev()) {
            Some(questions) => questions,
            None => drives.entry(metadata.dev()).or_insert(Questions {
                drive: mounts::drive_of(path, &metadata)?,
                positions: Vec::new(),
                subjects: Vec::new(),
            }),
        };
        questions.positions.push(position);
        questions.subjects.push(subject(path, &metadata)?);
    }
    Ok(drives.into_values().collect())
}

/// How a drive finds what is at a path: a file by its name, for it may have others.
fn subject(path: &Path, metadata: &std::fs::Metadata) -> Result<SubjectRequest> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !metadata.is_dir() => {
            // The directory itself, also where the path leads to it over a symbolic link.
            let dir = mounts::look_at(&parent.join("."))?;
            Ok(SubjectRequest::Name {
                dir: dir.ino(),
                name: name.as_bytes().to_vec().into(),
            })
        }
        _ => Ok(SubjectRequest::Tree(metadata.ino())),
    }
}
