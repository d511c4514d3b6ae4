//! Compares the model with a dump of a real filesystem: names, attributes, bytes, holes, attributes, times.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::op::AttrAnswer;
use super::pages::{PAGE, PageState, Pages};
use super::state::{Body, Id, Inode, Mark, Model, ROOT};

/// A run of a file's bytes that the filesystem says is data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Everything that can be seen of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDump {
    /// Attributes.
    pub attr: AttrAnswer,
    /// Target of a symlink, else empty.
    pub target: Vec<u8>,
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Data of a regular file, in order.
    pub segments: Vec<Segment>,
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Seconds and nanoseconds.
    pub ctime: (i64, u32),
}

/// Everything that can be seen of a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeDump {
    /// Inode number of each path, relative to the root, which is the empty path.
    pub names: BTreeMap<Vec<u8>, u64>,
    /// Inode number of each open slot.
    pub slots: BTreeMap<usize, u64>,
    /// Inodes by number.
    pub nodes: HashMap<u64, NodeDump>,
}

/// How far timestamps are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Those set by a program.
    Set,
    /// Also, that those taken from the clock are in the order of the operations.
    Ordered,
}

/// At most this many differences are reported.
const REPORTED_MAX: usize = 12;

impl Model {
    /// Compares the whole state.
    ///
    /// # Errors
    /// The differences, one per line.
    pub fn compare(&self, dump: &TreeDump, times: Times) -> Result<(), String> {
        let mut wrong = Vec::new();
        let (names, mut ids) = self.paths();
        compare_keys(&names, &dump.names, &mut wrong);
        let pairs = names
            .iter()
            .filter_map(|(path, id)| Some((show(path), *id, *dump.names.get(path)?)));
        let slots = (0..).zip(&self.slots);
        let slots = slots.filter_map(|(slot, id)| {
            let ino = dump.slots.get(&slot)?;
            Some((format!("slot{slot}"), (*id)?, *ino))
        });
        let mut inos = HashMap::new();
        for (path, id, ino) in pairs.chain(slots) {
            let before = (inos.insert(ino, id), ids.insert(id, Some(ino)).flatten());
            match before {
                (None, None) => {
                    let node = &dump.nodes[&ino];
                    self.compare_node(&path, id, node, &mut wrong);
                }
                (Some(other), Some(same)) if other == id && same == ino => (),
                _ => wrong.push(format!(
                    "{path}: inode {ino} is linked to other names than in the model"
                )),
            }
        }
        if times == Times::Ordered && wrong.is_empty() {
            self.compare_clock(&ids, dump, &mut wrong);
        }
        wrong.truncate(REPORTED_MAX);
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// Every path of the tree, and every inode with room for its number in a dump.
    fn paths(&self) -> (BTreeMap<Vec<u8>, Id>, HashMap<Id, Option<u64>>) {
        let mut names = BTreeMap::from([(Vec::new(), ROOT)]);
        let mut todo = vec![(Vec::new(), ROOT)];
        while let Some((path, id)) = todo.pop() {
            let Some(dir) = self.inode(id).dir() else { continue };
            for (name, id) in &dir.entries {
                let path: Vec<u8> = [&path[..], b"/", name.0].concat();
                names.insert(path.clone(), *id);
                todo.push((path, *id));
            }
        }
        (names, self.inodes.keys().map(|id| (*id, None)).collect())
    }

    fn compare_node(&self, path: &str, id: Id, node: &NodeDump, wrong: &mut Vec<String>) {
        let inode = self.inode(id);
        let attr = self.attr(id);
        if attr != node.attr {
            wrong.push(format!(
                "{path}: attributes {:?}, in the model {attr:?}",
                node.attr
            ));
        }
        if let Body::Symlink(target) = &inode.body
            && *target != node.target
        {
            wrong.push(format!("{path}: leads to {}", show(&node.target)));
        }
        compare_xattrs(path, inode, node, wrong);
        if let Body::File(pages) = &inode.body
            && let Err(difference) = compare_bytes(pages, &node.segments)
        {
            wrong.push(format!("{path}: {difference}"));
        }
        if let Mark::At(secs, nanos) = inode.mtime
            && (secs, nanos) != node.mtime
        {
            wrong.push(format!(
                "{path}: mtime {:?}, in the model {:?}",
                node.mtime,
                (secs, nanos)
            ));
        }
    }

    /// Timestamps that operations took from the clock must be in the order of the operations.
    fn compare_clock(&self, ids: &HashMap<Id, Option<u64>>, dump: &TreeDump, wrong: &mut Vec<String>) {
        let mut seen: Vec<Stamp> = Vec::new();
        for (id, ino) in ids {
            let Some((ino, node)) = ino.and_then(|ino| Some((ino, dump.nodes.get(&ino)?))) else {
                continue;
            };
            let inode = self.inode(*id);
            let marks = [
                (inode.mtime, node.mtime, "mtime"),
                (inode.ctime, node.ctime, "ctime"),
            ];
            seen.extend(marks.into_iter().filter_map(|(mark, time, which)| match mark {
                Mark::Tick(tick) => Some(Stamp {
                    tick,
                    time,
                    which,
                    ino,
                }),
                Mark::At(..) | Mark::Open => None,
            }));
        }
        seen.sort_by_key(|stamp| stamp.tick);
        let mut latest: Option<&Stamp> = None;
        for of_one_tick in seen.chunk_by(|a, b| a.tick == b.tick) {
            for stamp in of_one_tick {
                if let Some(latest) = latest.filter(|latest| stamp.time <= latest.time) {
                    wrong.push(format!(
                        "{stamp} is not later than {latest}; now is tick {}",
                        self.tick
                    ));
                }
            }
            latest = of_one_tick.iter().chain(latest).max_by_key(|stamp| stamp.time);
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tick,
            time,
            which,
            ino,
        } = self;
        write!(f, "{which} {time:?} of inode {ino}, from tick {tick},")
    }
}

/// A timestamp that an operation took from the clock.
#[derive(Clone, Copy)]
struct Stamp {
    /// Number of the operation.
    tick: u64,
    time: (i64, u32),
    which: &'static str,
    ino: u64,
}

fn compare_keys(model: &BTreeMap<Vec<u8>, Id>, dump: &BTreeMap<Vec<u8>, u64>, wrong: &mut Vec<String>) {
    let model: BTreeSet<_> = model.keys().collect();
    let dump: BTreeSet<_> = dump.keys().collect();
    wrong.extend(
        model
            .difference(&dump)
            .map(|path| format!("{}: is missing", show(path))),
    );
    wrong.extend(
        dump.difference(&model)
            .map(|path| format!("{}: must not be there", show(path))),
    );
}

fn compare_xattrs(path: &str, inode: &Inode, node: &NodeDump, wrong: &mut Vec<String>) {
    let same = inode.xattrs.len() == node.xattrs.len()
        && inode
            .xattrs
            .iter()
            .zip(&node.xattrs)
            .all(|(model, dump)| model.0.0 == dump.0 && *model.1 == dump.1);
    if !same {
        let names = |all: &mut dyn Iterator<Item = (&[u8], usize)>| {
            all.map(|(name, len)| format!("{}[{len}]", show(name)))
                .collect::<Vec<_>>()
        };
        let model = names(&mut inode.xattrs.iter().map(|(name, value)| (name.0, value.len())));
        let dump = names(&mut node.xattrs.iter().map(|(name, value)| (&name[..], value.len())));
        wrong.push(format!("{path}: attributes {dump:?}, in the model {model:?}"));
    }
}

fn compare_bytes(pages: &Pages, segments: &[Segment]) -> Result<(), String> {
    let mut covered = 0;
    for segment in segments {
        let (start, len) = (segment.offset, segment.bytes.len() as u64);
        let end = start + len;
        if !start.is_multiple_of(PAGE) || !(end.is_multiple_of(PAGE) || end == pages.len()) || start < covered
        {
            return Err(format!("data at {start}..{end} does not lie on pages"));
        }
        if let Some(hole) =
            (start / PAGE..end.div_ceil(PAGE)).find(|page| pages.state(*page) == PageState::Hole)
        {
            return Err(format!("page {hole} is a hole, not data"));
        }
        let right = pages.read(start, len);
        if right != segment.bytes {
            let at = right.iter().zip(&segment.bytes).position(|(a, b)| a != b);
            let at = at.unwrap_or(right.len().min(segment.bytes.len()));
            return Err(format!("byte {} of {} is wrong", start + at as u64, pages.len()));
        }
        covered = end;
    }
    match pages
        .data_pages()
        .find(|page| !in_segments(segments, page * PAGE))
    {
        Some(page) => Err(format!("page {page} is data, not a hole")),
        None => Ok(()),
    }
}

fn in_segments(segments: &[Segment], offset: u64) -> bool {
    let after = segments.partition_point(|segment| segment.offset <= offset);
    after > 0 && offset < segments[after - 1].offset + segments[after - 1].bytes.len() as u64
}

fn show(path: &[u8]) -> String {
    match path.len() {
        0 => "/".into(),
        1..=80 => path.escape_ascii().to_string(),
        len => format!("{}... ({len} bytes)", path[..40].escape_ascii()),
    }
}
