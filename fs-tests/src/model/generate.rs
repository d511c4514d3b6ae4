//! Makes up operations that collide often: few names, few open slots, small files, and now and then a huge one.

use super::op::{Fallocation, Name, NodeKind, Op, Place, RenameFlags, SLOTS, Span, Target, XattrFlag};
use super::pages::{FILE_END_MAX, PAGE};
use super::state::{Body, Id, Model, ROOT};
use crate::rng::Rng;

/// What a run may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Mappings, which only a mounted filesystem has.
    pub mmap: bool,
    /// Offsets at the largest file size, users other than root, and writers without privileges: what a kernel
    /// answers or decides before a filesystem hears of it.
    pub raw: bool,
    /// Inodes that are wanted at most.
    pub inodes: usize,
    /// Pages that are wanted at most.
    pub pages: usize,
    /// Mostly copies of whole files, and small changes where pages and blocks meet.
    pub sharing: bool,
}

/// Makes up operations from a seed and the state of a model.
#[derive(Clone, Debug)]
pub struct Generator {
    pub(super) rng: Rng,
    pub(super) features: Features,
    /// What comes next in any case, the last first.
    pub(super) planned: Vec<Op>,
}

static LONG: [u8; 255] = [b'L'; 255];
static TOO_LONG: [u8; 256] = [b'M'; 256];
const NAMES: [Name; 8] = [
    Name(b"a"),
    Name(b"b"),
    Name(b"c"),
    Name(b"dir"),
    Name(b"sub"),
    Name(b"\xff\x01 \n"),
    Name("\u{fc}ber".as_bytes()),
    Name(&LONG),
];
const XATTRS: [Name; 6] = [
    Name(b"user.a"),
    Name(b"user.bc"),
    Name(b"trusted.t"),
    Name(b"security.s"),
    Name(b"user.a longer name for an attribute than most programs ever choose"),
    Name(b"odd.prefix"),
];

impl Generator {
    /// A generator that begins at `seed`.
    pub fn new(seed: u64, features: Features) -> Self {
        Self {
            rng: Rng::new(seed),
            features,
            planned: Vec::new(),
        }
    }

    /// The next operation.
    pub fn next(&mut self, model: &Model) -> Op {
        if let Some(op) = self.planned.pop() {
            return op;
        }
        if model.inode_count() > self.features.inodes && self.rng.percent(60) {
            return self.removal(model);
        }
        if model.page_count_over(self.features.pages) && self.rng.percent(60) {
            return self.shrinking(model);
        }
        if self.features.sharing && self.rng.percent(90) {
            return self.sharing(model);
        }
        match self.rng.below(100) {
            0..=5 => self.open_or_close(model),
            6..=16 => self.make(model),
            17..=19 => self.link(model),
            20..=21 => self.removal(model),
            22..=27 => self.rename(model),
            28..=72 => self.data(model),
            73..=84 => self.attributes(model),
            85..=92 => self.xattr(model),
            _ => self.question(model),
        }
    }

    fn open_or_close(&mut self, model: &Model) -> Op {
        let slot = self.rng.index(SLOTS);
        if self.rng.percent(30) {
            return Op::Close { slot };
        }
        let at = self.place(model, 95);
        Op::Open { slot, at }
    }

    fn make(&mut self, model: &Model) -> Op {
        let node = match self.rng.below(20) {
            0..=8 => NodeKind::Regular,
            9..=14 => NodeKind::Directory,
            15 => NodeKind::Symlink(4095),
            16 => NodeKind::Symlink(self.rng.pick(&[1, 20, 60, 200])),
            17 => self.rng.pick(&[NodeKind::Fifo, NodeKind::Socket]),
            18 => NodeKind::Char(self.rng.pick(&[0, 0x103])),
            _ => NodeKind::Block(0x700),
        };
        // mkdir(2) takes no set-ID bits, and a file's set-group-ID may be refused to those outside the group
        let bits = if node == NodeKind::Directory {
            0o1777
        } else {
            0o5777
        };
        let raw = self.features.raw;
        Op::Make {
            at: self.place(model, 10),
            node,
            mode: self.mode() & bits,
            umask: self.rng.pick(&[0, 0o022, 0o077]),
            uid: if raw {
                self.rng.pick(&[0, 0, 1000, 1001])
            } else {
                0
            },
            gid: if raw {
                self.rng.pick(&[0, 0, 1000, 1001])
            } else {
                0
            },
        }
    }

    fn link(&mut self, model: &Model) -> Op {
        Op::Link {
            from: self.target(model),
            to: self.place(model, 15),
        }
    }

    /// Mostly what can be removed: a file, or an empty directory.
    fn removal(&mut self, model: &Model) -> Op {
        let at = self.place_where(model, |model, id| {
            model.inode(id).dir().is_none_or(|dir| dir.entries.is_empty())
        });
        let is_dir = model.format_of(&Target::Path(at.clone())) == Some(libc::S_IFDIR);
        match is_dir != self.rng.percent(3) {
            true => Op::Rmdir { at },
            false => Op::Unlink { at },
        }
    }

    fn rename(&mut self, model: &Model) -> Op {
        let mut flags = RenameFlags::default();
        match self.rng.below(12) {
            0..=1 => flags.no_replace = true,
            2..=3 => flags.exchange = true,
            4 => flags.whiteout = true,
            5 => {
                flags = RenameFlags {
                    no_replace: true,
                    exchange: false,
                    whiteout: true,
                }
            }
            6 => {
                flags = RenameFlags {
                    no_replace: true,
                    exchange: self.rng.percent(5),
                    whiteout: false,
                }
            }
            _ => (),
        }
        let wants_target = if flags.exchange { 95 } else { 50 };
        Op::Rename {
            from: self.place(model, 95),
            to: self.place(model, wants_target),
            flags,
        }
    }

    fn data(&mut self, model: &Model) -> Op {
        let file = self.file(model);
        let size = model
            .format_of(&file)
            .and_then(|_| model.size_of(&file))
            .unwrap_or(0);
        let span = self.span(size);
        let fill = self.fill();
        match self.rng.below(40) {
            0..=11 => Op::Write {
                file,
                span: Span {
                    offset: if self.features.raw && self.rng.below(500) == 0 {
                        FILE_END_MAX
                    } else {
                        span.offset
                    },
                    ..span
                },
                fill,
                clear: self.features.raw && self.rng.percent(20),
            },
            12..=15 => {
                let len = span.len.min(20_000);
                Op::Append { file, len, fill }
            }
            16..=22 => Op::Read { file, span },
            23..=24 => {
                let size = self.new_size(size);
                Op::Truncate { file, size }
            }
            25..=30 => Op::Fallocate {
                file,
                span: Span {
                    len: span.len.max(1),
                    ..span
                },
                mode: self.rng.pick(&[
                    Fallocation::Allocate,
                    Fallocation::AllocateKeep,
                    Fallocation::Punch,
                    Fallocation::Zero,
                    Fallocation::ZeroKeep,
                ]),
            },
            31..=33 => Op::Seek {
                file,
                offset: span.offset,
                hole: self.rng.percent(50),
            },
            34..=36 => {
                let to = self.file(model);
                let target_size = model.size_of(&to).unwrap_or(0);
                let offset = self.span(target_size).offset;
                let offset = if self.rng.percent(50) {
                    offset / PAGE * PAGE
                } else {
                    offset
                };
                Op::CopyRange {
                    from: file,
                    span,
                    to,
                    offset,
                }
            }
            37 | 38 if self.features.mmap => Op::MmapWrite {
                file,
                span,
                fill,
                sync: self.rng.percent(50),
            },
            39 if self.features.mmap => Op::MmapRead { file, span },
            _ => Op::Read { file, span },
        }
    }

    fn shrinking(&mut self, model: &Model) -> Op {
        let file = self.file(model);
        match self.rng.below(3) {
            0 => self.removal(model),
            1 => Op::Truncate {
                file,
                size: self.rng.pick(&[0, 1, PAGE, 10_000]),
            },
            _ => Op::Fallocate {
                file,
                span: Span {
                    offset: 0,
                    len: 1 << 30,
                },
                mode: Fallocation::Punch,
            },
        }
    }

    fn attributes(&mut self, model: &Model) -> Op {
        let on = self.target(model);
        let id = |rng: &mut Rng| rng.pick(&[None, Some(0), Some(1000), Some(1001), Some(65534)]);
        match self.rng.below(3) {
            0 => Op::Chmod {
                on,
                mode: self.mode(),
            },
            1 => match (id(&mut self.rng), id(&mut self.rng)) {
                (None, None) => Op::Chown {
                    on,
                    uid: Some(0),
                    gid: None,
                },
                (uid, gid) => Op::Chown { on, uid, gid },
            },
            _ => Op::Utimens {
                on,
                atime: self.time(),
                mtime: self.time(),
            },
        }
    }

    fn xattr(&mut self, model: &Model) -> Op {
        let on = self.target(model);
        let name = self.rng.pick(&XATTRS);
        match self.rng.below(10) {
            0..=4 => Op::SetXattr {
                on,
                name,
                len: match self.rng.below(20) {
                    0 => 65_536,
                    1 => 4096,
                    _ => self.rng.pick(&[0, 1, 30, 300]),
                },
                fill: self.fill(),
                flag: self.rng.pick(&[
                    XattrFlag::Set,
                    XattrFlag::Set,
                    XattrFlag::Create,
                    XattrFlag::Replace,
                ]),
            },
            5..=6 => Op::GetXattr { on, name },
            7 => Op::ListXattr { on },
            _ => Op::RemoveXattr { on, name },
        }
    }

    fn question(&mut self, model: &Model) -> Op {
        match self.rng.below(10) {
            0..=3 => Op::ReadDir {
                on: self.target(model),
                step: self.rng.pick(&[1, 2, 3, 1000]),
            },
            4 => Op::ReadLink {
                at: self.place(model, 95),
            },
            5 => Op::StatFs,
            _ => Op::Stat {
                on: self.target(model),
            },
        }
    }

    /// Any object: mostly by path, mostly one that exists.
    fn target(&mut self, model: &Model) -> Target {
        let slot = self.rng.index(SLOTS);
        if self.rng.percent(15) && model.is_open(slot) {
            return Target::Slot(slot);
        }
        if self.rng.percent(3) {
            return Target::Path(Place {
                base: None,
                path: Vec::new(),
            });
        }
        Target::Path(self.place(model, 92))
    }

    /// An object that is mostly a regular file.
    pub(super) fn file(&mut self, model: &Model) -> Target {
        let slot = self.rng.index(SLOTS);
        let target = Target::Slot(slot);
        if self.rng.percent(25) && model.format_of(&target) == Some(libc::S_IFREG) {
            return target;
        }
        Target::Path(self.place_where(model, |model, id| matches!(model.inode(id).body, Body::File(_))))
    }

    /// A path to something of a kind, unless some tries did not find it.
    fn place_where(&mut self, model: &Model, wanted: impl Fn(&Model, Id) -> bool) -> Place {
        for _ in 0..7 {
            let place = self.place(model, 97);
            if let Ok(Some(id)) = model.place(&place)
                && wanted(model, id)
            {
                return place;
            }
        }
        self.place(model, 97)
    }

    /// A path; its last name exists in about `existing` of 100.
    pub(super) fn place(&mut self, model: &Model, existing: u64) -> Place {
        let slot = self.rng.index(SLOTS);
        let mut place = Place {
            base: None,
            path: Vec::new(),
        };
        let mut dir = ROOT;
        if let Some(id) = model.slots[slot]
            && (model.inode(id).dir().is_some() || self.rng.percent(2))
            && self.rng.percent(20)
        {
            place.base = Some(slot);
            dir = id;
        }
        for _ in 0..3 {
            let below = self.directory_in(model, dir);
            match below {
                Some((name, id)) if self.rng.percent(45) => {
                    place.path.push(name);
                    dir = id;
                }
                _ => break,
            }
        }
        place.path.push(self.last_name(model, dir, existing));
        if self.rng.percent(1) {
            let name = self.rng.pick(&NAMES);
            place.path.push(name);
        }
        place
    }

    fn directory_in(&mut self, model: &Model, dir: Id) -> Option<(Name, Id)> {
        let dir = model.inode(dir).dir()?;
        let below: Vec<_> = dir
            .entries
            .iter()
            .filter(|(_, id)| model.inode(**id).dir().is_some())
            .map(|(name, id)| (*name, *id))
            .collect();
        (!below.is_empty()).then(|| self.rng.pick(&below))
    }

    fn last_name(&mut self, model: &Model, dir: Id, existing: u64) -> Name {
        let dir = model.inode(dir).dir();
        // below what is no directory, and in a removed one, two errors hold at once
        if self.rng.below(400) == 0 && dir.is_some_and(|dir| !dir.removed) {
            return Name(&TOO_LONG);
        }
        let entries = dir.map(|dir| &dir.entries);
        match entries {
            Some(entries) if !entries.is_empty() && self.rng.percent(existing) => {
                let nth = self.rng.index(entries.len());
                *entries
                    .keys()
                    .nth(nth)
                    .expect("the index is below the number of entries")
            }
            _ => self.rng.pick(&NAMES),
        }
    }

    fn mode(&mut self) -> u16 {
        u16::try_from(self.rng.below(0o10000)).expect("12 bits fit")
    }

    /// One of thousands, or of a few, so that equal blocks come about.
    fn fill(&mut self) -> u32 {
        let most = self.rng.pick(&[1, 1000]);
        self.rng.pick(&[0, 1, 2, 3, 4, 5, 6, 7]) * u32::try_from(1 + self.rng.below(most)).expect("1000 fits")
    }

    fn span(&mut self, size: u64) -> Span {
        let size = size.min(1 << 40);
        let offset = match self.rng.below(100) {
            0..=49 => self.rng.below(size + 1),
            50..=59 => size,
            60..=79 => self.rng.below(40) * PAGE,
            80..=93 => self.rng.below(200_000),
            94..=97 => self.rng.below(1 << 22),
            _ => self.rng.below(1 << 40),
        };
        let len = match self.rng.below(100) {
            0..=1 => 0,
            2..=39 => 1 + self.rng.below(100),
            40..=69 => 1 + self.rng.below(PAGE * 2),
            70..=89 => (1 + self.rng.below(4)) * PAGE,
            90..=94 => self.rng.below(60_000),
            _ => self.rng.below(200_000),
        };
        Span { offset, len }
    }

    fn new_size(&mut self, size: u64) -> u64 {
        match self.rng.below(40) {
            0..=9 => self.rng.below(size.min(1 << 40) + 1),
            10..=30 => self.rng.below(100_000),
            31..=35 => self.rng.below(40) * PAGE,
            36 => 1 << 40,
            37 => FILE_END_MAX,
            38 if self.features.raw => FILE_END_MAX + 1,
            _ => 0,
        }
    }

    /// Before 1970, now, after 2038: each with nanoseconds.
    fn time(&mut self) -> (i64, u32) {
        let secs = self.rng.pick(&[-86_400, -1, 0, 1_700_000_000, 4_000_000_000]);
        (secs, self.rng.pick(&[0, 1, 500_000_000, 999_999_999]))
    }
}

impl Model {
    /// Size of a regular file; `None` for anything else.
    pub fn size_of(&self, target: &Target) -> Option<u64> {
        let id = self.target(target).ok()??;
        match &self.inode(id).body {
            Body::File(pages) => Some(pages.len()),
            _ => None,
        }
    }

    /// Whether all files together hold more than so many pages.
    pub fn page_count_over(&self, pages: usize) -> bool {
        let mut sum = 0;
        self.inodes.values().any(|inode| {
            if let Body::File(pages) = &inode.body {
                sum += pages.present();
            }
            sum > pages
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_fail_now_and_then_but_mostly_succeed() {
        let features = Features {
            mmap: true,
            raw: true,
            inodes: 100,
            pages: 1500,
            sharing: false,
        };
        let mut generator = Generator::new(1, features);
        let mut model = Model::default();
        let (mut failed, mut succeeded) = (0, 0);
        for _ in 0..20_000 {
            let op = generator.next(&model);
            match model.apply(&op).first {
                Ok(_) => succeeded += 1,
                Err(_) => failed += 1,
            }
        }
        assert!(
            succeeded > failed && failed > 1000,
            "{succeeded} succeeded, {failed} failed"
        );
        assert!(
            model.inode_count() > 20 && model.page_count() > 150,
            "{} pages",
            model.page_count()
        );
    }
}
