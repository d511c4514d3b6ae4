//! A node of the extent map: a B+-tree whose nodes are shared between maps and copied on write.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::run::Extent;
use crate::grid::Charge;
use crate::limits::NODE_COST;

/// Most items in a node. Of a file of 1,024 extents, 16 pages written all over a clone cost 5,756 bytes each, with 64
/// items 6,727, with 16 items 5,298; but more items make fewer levels and less of everything else.
pub(super) const NODE_MAX: usize = 32;
/// A node with fewer items merges with a neighbour if the two leave room for inserts.
const NODE_MIN: usize = NODE_MAX / 4;
/// Most items in a node that came from a merge.
const MERGED_MAX: usize = NODE_MAX - NODE_MIN;

/// A subtree of at least one extent.
///
/// Invariants:
/// 1. Items ascend, and a node holds 1 to [`NODE_MAX`] of them.
/// 2. All leaves of a tree are equally deep.
/// 3. A child's `first` is the start of the first extent below it.
/// 4. The charge is what the memory of the node's items costs.
/// 5. `covered` is [`UNKNOWN`], or tells about the extents below as they are. Whatever takes the node for changes forgets
///    it, so a shared node's stays right.
pub(super) struct Node {
    items: Items,
    charge: Charge,
    /// Where the extents below end, if there is no hole between them; else [`BROKEN`]. It is found when it is needed.
    covered: AtomicU64,
}

/// Of [`Node::covered`]: nobody has looked.
const UNKNOWN: u64 = 0;
/// Of [`Node::covered`]: there are holes between the extents. No extent ends so early.
const BROKEN: u64 = 1;

/// What a node holds.
#[derive(Clone)]
enum Items {
    /// Extents, ascending.
    Leaf(Vec<Extent>),
    /// Subtrees, ascending.
    Inner(Vec<Child>),
}

/// A subtree and its least key.
#[derive(Clone)]
pub(super) struct Child {
    first: u64,
    node: Arc<Node>,
}

// With the counts of its `Arc` (16) and the heap's word (8) it takes what the heap hands out, a multiple of 16; with the
// heap's word for the items, and what is lost beside them (16), it fits NODE_COST.
const _: () = assert!((size_of::<Node>() + 24).next_multiple_of(16) + 16 <= NODE_COST as usize);

/// Bytes charged for memory of that many items, and for what holds them.
pub(super) fn cost<T>(items: &Vec<T>) -> u64 {
    NODE_COST + (items.capacity() * size_of::<T>()) as u64
}

/// A copy takes no more memory than it needs, and is charged for.
impl Clone for Node {
    fn clone(&self) -> Self {
        Self::with(self.items.clone(), |bytes| self.charge.another(bytes))
    }
}

impl Child {
    /// A child for a node that is not empty.
    pub(super) fn new(node: Arc<Node>) -> Self {
        let first = node.first().expect("a node holds at least one extent");
        Self { first, node }
    }
}

impl Node {
    /// A leaf of at least one extent.
    pub(super) fn leaf(extents: Vec<Extent>) -> Self {
        let first = extents.first().expect("a leaf holds at least one extent");
        let charge = Charge::beside(&first.block, cost(&extents));
        Self {
            items: Items::Leaf(extents),
            charge,
            covered: AtomicU64::new(UNKNOWN),
        }
    }

    /// A node above two others, which are equally deep.
    pub(super) fn above(left: Arc<Self>, right: Child) -> Self {
        let children = vec![Child::new(left), right];
        let charge = children[0].node.charge.another(cost(&children));
        Self {
            items: Items::Inner(children),
            charge,
            covered: AtomicU64::new(UNKNOWN),
        }
    }

    fn with(items: Items, charge: impl FnOnce(u64) -> Charge) -> Self {
        let charge = charge(items.cost());
        Self {
            items,
            charge,
            covered: AtomicU64::new(UNKNOWN),
        }
    }

    /// The items, for changes.
    fn items_mut(&mut self) -> &mut Items {
        *self.covered.get_mut() = UNKNOWN;
        &mut self.items
    }

    /// Charges for items that have come.
    fn recharge(&mut self) {
        let cost = self.items.cost();
        if cost != self.charge.bytes() {
            self.charge.set(cost);
        }
    }

    /// What is charged for this node alone.
    pub(super) fn charged_bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// The nodes below this one; a leaf has none.
    pub(super) fn children(&self) -> impl Iterator<Item = &Arc<Self>> {
        let children = match &self.items {
            Items::Leaf(_) => &[],
            Items::Inner(children) => children.as_slice(),
        };
        children.iter().map(|child| &child.node)
    }

    /// Start of the first extent; `None` only while a removal is under way.
    fn first(&self) -> Option<u64> {
        match &self.items {
            Items::Leaf(extents) => extents.first().map(|extent| extent.start),
            Items::Inner(children) => children.first().map(|child| child.first),
        }
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        match &self.items {
            Items::Leaf(extents) => extents.len(),
            Items::Inner(children) => children.len(),
        }
    }

    /// The last extent that starts at `offset` or before.
    pub(super) fn at_or_before(&self, offset: u64) -> Option<&Extent> {
        match &self.items {
            Items::Leaf(extents) => {
                let behind = extents.partition_point(|extent| extent.start <= offset);
                extents[..behind].last()
            }
            Items::Inner(children) => children[child_of(children, offset)?].node.at_or_before(offset),
        }
    }

    /// Like [`Node::at_or_before`], for changes; the nodes on the way become private.
    pub(super) fn at_or_before_mut(&mut self, offset: u64) -> Option<&mut Extent> {
        match self.items_mut() {
            Items::Leaf(extents) => {
                let behind = extents.partition_point(|extent| extent.start <= offset);
                extents[..behind].last_mut()
            }
            Items::Inner(children) => {
                let at = child_of(children, offset)?;
                Arc::make_mut(&mut children[at].node).at_or_before_mut(offset)
            }
        }
    }

    /// Like [`Node::at_or_before_mut`]; `None` also where a node on the way is shared.
    pub(super) fn exclusive_mut(&mut self, offset: u64) -> Option<&mut Extent> {
        match self.items_mut() {
            Items::Leaf(extents) => {
                let behind = extents.partition_point(|extent| extent.start <= offset);
                extents[..behind].last_mut()
            }
            Items::Inner(children) => {
                let at = child_of(children, offset)?;
                Arc::get_mut(&mut children[at].node)?.exclusive_mut(offset)
            }
        }
    }

    /// Extents that start at `offset` or behind, as far as one leaf holds them; empty only where there are none.
    pub(super) fn run_from(&self, offset: u64) -> &[Extent] {
        match &self.items {
            Items::Leaf(extents) => &extents[extents.partition_point(|extent| extent.start < offset)..],
            Items::Inner(children) => children[child_of(children, offset).unwrap_or(0)..]
                .iter()
                .map(|child| child.node.run_from(offset))
                .find(|run| !run.is_empty())
                .unwrap_or_default(),
        }
    }

    /// Where the pages end that the extents have which begin at `from` and before `limit`, one behind the other. No extent
    /// begins before `limit` and ends behind it.
    pub(super) fn covered_until(&self, from: u64, limit: u64) -> u64 {
        match self.follow(from, limit) {
            ControlFlow::Continue(end) | ControlFlow::Break(end) => end,
        }
    }

    /// Follows the extents that begin at `from`, each where the last one's pages end, as long as they begin before
    /// `limit`: continues with the end where nothing but the subtree's end was met, else breaks with it.
    fn follow(&self, from: u64, limit: u64) -> ControlFlow<u64, u64> {
        let is_next = |start: u64, end: u64| start == end && start < limit;
        match &self.items {
            Items::Leaf(extents) => {
                let behind = &extents[extents.partition_point(|extent| extent.start < from)..];
                behind
                    .iter()
                    .try_fold(from, |end, extent| match is_next(extent.start, end) {
                        true => ControlFlow::Continue(extent.page_end()),
                        false => ControlFlow::Break(end),
                    })
            }
            Items::Inner(children) => {
                let behind = &children[child_of(children, from).unwrap_or(0)..];
                behind.iter().try_fold(from, |end, child| {
                    if child.first < end {
                        return child.node.follow(end, limit);
                    }
                    match child.node.covered(child.first) {
                        _ if !is_next(child.first, end) => ControlFlow::Break(end),
                        Some(covered) if covered <= limit => ControlFlow::Continue(covered),
                        Some(_) => ControlFlow::Break(limit),
                        None => child.node.follow(end, limit),
                    }
                })
            }
        }
    }

    /// Where the extents of a subtree end that begins at `first`; `None` where there are holes between them.
    fn covered(&self, first: u64) -> Option<u64> {
        let mut known = self.covered.load(Ordering::Relaxed);
        if known == UNKNOWN {
            known = self.follow(first, u64::MAX).continue_value().unwrap_or(BROKEN);
            self.covered.store(known, Ordering::Relaxed);
        }
        (known != BROKEN).then_some(known)
    }

    /// Where the stretch around `offset` ends in which two trees share a node; `None` where they do not.
    pub(super) fn shared_until(self: &Arc<Self>, other: &Arc<Self>, offset: u64) -> Option<u64> {
        if Arc::ptr_eq(self, other) {
            return Some(u64::MAX);
        }
        let (Items::Inner(a), Items::Inner(b)) = (&self.items, &other.items) else {
            return None;
        };
        let (at_a, at_b) = (child_of(a, offset)?, child_of(b, offset)?);
        let shared = a[at_a].node.shared_until(&b[at_b].node, offset)?;
        let ends = [a.get(at_a + 1), b.get(at_b + 1)];
        let ends = ends.into_iter().flatten().map(|next| next.first);
        Some(ends.fold(shared, u64::min))
    }

    /// Adds an extent whose start is not in the subtree; a full node splits and returns its right half.
    pub(super) fn insert(&mut self, extent: Extent) -> Option<Child> {
        let right = match self.items_mut() {
            Items::Leaf(extents) => {
                let at = extents.partition_point(|other| other.start < extent.start);
                insert_or_split(extents, at, extent).map(Items::Leaf)
            }
            Items::Inner(children) => {
                let at = child_of(children, extent.start).unwrap_or(0);
                let child = &mut children[at];
                child.first = child.first.min(extent.start);
                let split = Arc::make_mut(&mut child.node).insert(extent)?;
                insert_or_split(children, at + 1, split).map(Items::Inner)
            }
        };
        self.recharge();
        let right = Self::with(right?, |bytes| self.charge.another(bytes));
        Some(Child::new(Arc::new(right)))
    }

    /// Takes out the extent that starts at `start`.
    pub(super) fn remove(&mut self, start: u64) -> Option<Extent> {
        match self.items_mut() {
            Items::Leaf(extents) => {
                let at = extents.binary_search_by_key(&start, |extent| extent.start).ok()?;
                Some(extents.remove(at))
            }
            Items::Inner(children) => {
                let at = child_of(children, start)?;
                let removed = Arc::make_mut(&mut children[at].node).remove(start)?;
                settle(children, at);
                Some(removed)
            }
        }
    }

    /// Drops the extents that start in `start..end`, showing each to `gone`; the node may end empty.
    pub(super) fn remove_range(&mut self, start: u64, end: u64, gone: &mut dyn FnMut(&Extent)) {
        match self.items_mut() {
            Items::Leaf(extents) => {
                let from = extents.partition_point(|extent| extent.start < start);
                let to = extents.partition_point(|extent| extent.start < end);
                extents.drain(from..to).for_each(|extent| gone(&extent));
            }
            Items::Inner(children) => {
                let from = child_of(children, start).unwrap_or(0);
                let to = children.partition_point(|child| child.first < end);
                // What goes whole is not copied first.
                let goes = |child: &Child| child.first >= start && child.node.last() < Some(end);
                let first_whole = from + usize::from(!goes(&children[from]));
                let end_whole = to - usize::from(to > first_whole && !goes(&children[to - 1]));
                if first_whole < end_whole {
                    let whole = children.drain(first_whole..end_whole);
                    whole.for_each(|child| child.node.for_each(gone));
                }
                let edges = from..to - end_whole.saturating_sub(first_whole);
                for child in &mut children[edges.clone()] {
                    Arc::make_mut(&mut child.node).remove_range(start, end, gone);
                }
                // From the right, so that a left edge that is empty for a moment is settled last.
                edges.rev().for_each(|at| settle(children, at));
            }
        }
    }

    /// Start of the last extent; `None` only while a removal is under way.
    fn last(&self) -> Option<u64> {
        match &self.items {
            Items::Leaf(extents) => extents.last().map(|extent| extent.start),
            Items::Inner(children) => children.last()?.node.last(),
        }
    }

    /// Shows each extent to `visit`.
    fn for_each(&self, visit: &mut dyn FnMut(&Extent)) {
        match &self.items {
            Items::Leaf(extents) => extents.iter().for_each(visit),
            Items::Inner(children) => children.iter().for_each(|child| child.node.for_each(visit)),
        }
    }

    /// The only child of an inner node that has no other.
    pub(super) fn only_child(&self) -> Option<&Arc<Self>> {
        match &self.items {
            Items::Inner(children) if children.len() == 1 => Some(&children[0].node),
            Items::Inner(_) | Items::Leaf(_) => None,
        }
    }

    /// The only extent of a leaf that has no other.
    pub(super) fn only_extent(&self) -> Option<&Extent> {
        match &self.items {
            Items::Leaf(extents) if extents.len() == 1 => extents.first(),
            Items::Leaf(_) | Items::Inner(_) => None,
        }
    }

    /// Verifies the subtree's shape; returns its depth, or what is wrong with it.
    pub(super) fn check(&self) -> Result<usize, &'static str> {
        if self.len() == 0 || self.len() > NODE_MAX {
            return Err("a node of the extent map is empty or overfull");
        }
        if self.charge.bytes() != self.items.cost() {
            return Err("a node of the extent map is charged wrongly");
        }
        let known = self.covered.load(Ordering::Relaxed);
        let followed = self.first().map(|first| self.follow(first, u64::MAX));
        let covered = followed.and_then(ControlFlow::continue_value).unwrap_or(BROKEN);
        if known != UNKNOWN && known != covered {
            return Err("a node of the extent map remembers holes wrongly");
        }
        match &self.items {
            Items::Leaf(extents) if extents.is_sorted_by(|a, b| a.start < b.start) => Ok(0),
            Items::Leaf(_) => Err("extents are out of order"),
            Items::Inner(children) => check_children(children),
        }
    }

    /// Moves the items of a right neighbour of equal depth to the end of this node.
    fn append(&mut self, right: &Self) {
        match (self.items_mut(), &right.items) {
            (Items::Leaf(left), Items::Leaf(right)) => join(left, right),
            (Items::Inner(left), Items::Inner(right)) => join(left, right),
            _ => unreachable!("neighbours in the extent map are equally deep"),
        }
        self.recharge();
    }
}

impl Items {
    fn cost(&self) -> u64 {
        match self {
            Self::Leaf(extents) => cost(extents),
            Self::Inner(children) => cost(children),
        }
    }
}

/// The child below which `offset` belongs; `None` where it lies before all of them.
fn child_of(children: &[Child], offset: u64) -> Option<usize> {
    children
        .partition_point(|child| child.first <= offset)
        .checked_sub(1)
}

/// Inserts in a node, or splits a full one and returns its right half. A node that grows at its end stays full, so
/// that a file that is written from front to back packs its leaves.
fn insert_or_split<T>(items: &mut Vec<T>, at: usize, item: T) -> Option<Vec<T>> {
    if items.len() < NODE_MAX {
        if items.len() == items.capacity() {
            items.reserve_exact(items.len().clamp(1, NODE_MAX - items.len()));
        }
        items.insert(at, item);
        return None;
    }
    if at == items.len() {
        return Some(vec![item]);
    }
    let middle = items.len() / 2;
    let mut right = items.split_off(middle);
    if at <= middle {
        items.insert(at, item);
    } else {
        right.insert(at - middle, item);
    }
    Some(right)
}

fn join<T: Clone>(left: &mut Vec<T>, right: &[T]) {
    left.reserve_exact(right.len());
    left.extend_from_slice(right);
}

/// Restores the invariants around a child from which something was removed.
fn settle(children: &mut Vec<Child>, at: usize) {
    let Some(first) = children[at].node.first() else {
        children.remove(at);
        return;
    };
    children[at].first = first;
    if children[at].node.len() >= NODE_MIN {
        return;
    }
    let pairs = [at.checked_sub(1), Some(at)];
    let fits = |left: &usize| {
        children
            .get(left + 1)
            .is_some_and(|right| children[*left].node.len() + right.node.len() <= MERGED_MAX)
    };
    if let Some(left) = pairs.into_iter().flatten().find(fits) {
        let right = children.remove(left + 1);
        Arc::make_mut(&mut children[left].node).append(&right.node);
    }
}

/// The part of [`Node::check`] for an inner node.
fn check_children(children: &[Child]) -> Result<usize, &'static str> {
    if !children.is_sorted_by(|a, b| a.first < b.first) {
        return Err("nodes of the extent map are out of order");
    }
    let depth = children[0].node.check()?;
    for (at, child) in children.iter().enumerate() {
        if child.node.check()? != depth {
            return Err("leaves of the extent map differ in depth");
        }
        if child.node.first() != Some(child.first) {
            return Err("a key of the extent map is not its subtree's first");
        }
        let next = children.get(at + 1).map_or(u64::MAX, |next| next.first);
        if child
            .node
            .at_or_before(u64::MAX)
            .is_none_or(|last| last.start >= next)
        {
            return Err("subtrees of the extent map overlap");
        }
    }
    Ok(depth + 1)
}
