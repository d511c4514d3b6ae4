//! Makes up operations on files that share most of their bytes: clones of clones, and small changes where pages and
//! blocks meet.

use super::generate::Generator;
use super::op::{Fallocation, NodeKind, Op, Span, Target};
use super::pages::PAGE;
use super::state::Model;

/// Where blocks of the usual size meet.
const BLOCK: u64 = 64 << 10;
/// Files are rarely longer, so that a clone is a few blocks.
const LEN_MAX: u64 = 5 * BLOCK / 2;
/// So many patterns are written, so that equal pages are common.
const FILLS: u64 = 12;

impl Generator {
    pub(super) fn sharing(&mut self, model: &Model) -> Op {
        let file = self.file(model);
        let len = model.size_of(&file).unwrap_or(0).min(LEN_MAX);
        match self.rng.below(100) {
            0..=14 => self.clone_of(file, len, model),
            15..=24 => self.part_of(file, len, model),
            25..=49 => {
                let span = self.small_span(len);
                self.change(file, span)
            }
            50..=57 => {
                let span = self.whole_pages(len);
                self.change(file, span)
            }
            58..=65 => {
                let size = self.border(len);
                Op::Truncate { file, size }
            }
            66..=79 => self.allocation(file, len),
            80..=87 => Op::Seek {
                file,
                offset: self.border(len),
                hole: self.rng.percent(50),
            },
            88..=89 => self.new_file(model),
            _ => {
                let span = self.small_span(len);
                match self.features.mmap && self.rng.percent(50) {
                    true => Op::MmapRead { file, span },
                    false => Op::Read { file, span },
                }
            }
        }
    }

    /// All bytes of a file into another one, half of the time over what that has; or into a new one.
    fn clone_of(&mut self, from: Target, len: u64, model: &Model) -> Op {
        let (to, first) = match self.rng.below(4) {
            0 => {
                let make = self.new_file(model);
                let Op::Make { at, .. } = &make else {
                    unreachable!("a new file is made");
                };
                (Target::Path(at.clone()), Some(make))
            }
            1 => {
                let to = self.file(model);
                let file = to.clone();
                (to, Some(Op::Truncate { file, size: 0 }))
            }
            _ => (self.file(model), None),
        };
        // as cp(1) does, ask for more than there is
        let asked = if self.rng.percent(50) { len } else { len + BLOCK };
        let copy = Op::CopyRange {
            from,
            span: Span {
                offset: 0,
                len: asked,
            },
            to,
            offset: 0,
        };
        match first {
            None => copy,
            Some(first) => {
                self.planned.push(copy);
                first
            }
        }
    }

    /// Some bytes of a file to any place of another or of the same one; half of the time to the same offset.
    fn part_of(&mut self, from: Target, len: u64, model: &Model) -> Op {
        let span = match self.rng.percent(50) {
            true => self.small_span(len),
            false => self.whole_pages(len),
        };
        let offset = match self.rng.percent(50) {
            true => span.offset,
            false => self.border(len),
        };
        Op::CopyRange {
            from,
            span,
            to: self.file(model),
            offset,
        }
    }

    fn change(&mut self, file: Target, span: Span) -> Op {
        let fill = u32::try_from(self.rng.below(FILLS)).expect("there are few patterns");
        match self.features.mmap && self.rng.percent(30) {
            true => Op::MmapWrite {
                file,
                span,
                fill,
                sync: self.rng.percent(30),
            },
            false => Op::Write {
                file,
                span,
                fill,
                clear: false,
            },
        }
    }

    fn allocation(&mut self, file: Target, len: u64) -> Op {
        let span = match self.rng.percent(50) {
            true => self.small_span(len),
            false => self.whole_pages(len),
        };
        Op::Fallocate {
            file,
            span,
            mode: self.rng.pick(&[
                Fallocation::Punch,
                Fallocation::Punch,
                Fallocation::Zero,
                Fallocation::ZeroKeep,
                Fallocation::Allocate,
                Fallocation::AllocateKeep,
            ]),
        }
    }

    fn new_file(&mut self, model: &Model) -> Op {
        Op::Make {
            at: self.place(model, 5),
            node: NodeKind::Regular,
            mode: 0o644,
            umask: 0,
            uid: 0,
            gid: 0,
        }
    }

    /// An offset at the border of two pages or blocks, or beside it, up to a block behind the end.
    fn border(&mut self, len: u64) -> u64 {
        let step = self.rng.pick(&[PAGE, PAGE, BLOCK]);
        let border = self.rng.below((len + BLOCK) / step + 1) * step;
        let beside = self.rng.pick(&[0, 0, 0, 1, 7, 100, PAGE - 1]);
        match self.rng.percent(50) {
            true => border + beside,
            false => border.saturating_sub(beside),
        }
    }

    /// At least a byte, at most a few pages, mostly across a border or up to one.
    fn small_span(&mut self, len: u64) -> Span {
        let lengths = [1, 1, 2, 9, 101, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1];
        Span {
            offset: self.border(len),
            len: self.rng.pick(&lengths),
        }
    }

    /// One page to two blocks.
    fn whole_pages(&mut self, len: u64) -> Span {
        let pages = self.rng.pick(&[1, 1, 2, 3, 16, 16, 17, 32]);
        Span {
            offset: self.border(len) / PAGE * PAGE,
            len: pages * PAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Answer, Features};

    #[test]
    fn many_bytes_are_copied_and_many_copies_are_copied_again() {
        let features = Features {
            mmap: true,
            raw: false,
            inodes: 24,
            pages: 600,
            sharing: true,
        };
        let mut generator = Generator::new(1, features);
        let mut model = Model::default();
        let (mut copied, mut written) = (0, 0);
        for _ in 0..20_000 {
            let op = generator.next(&model);
            let answer = model.apply(&op).first;
            if let Ok(Answer::Count(count)) = answer {
                match op {
                    Op::CopyRange { .. } => copied += count,
                    _ => written += count,
                }
            }
        }
        assert!(
            copied > 2 * written && written > 1 << 20,
            "{copied} copied, {written} written"
        );
    }
}
