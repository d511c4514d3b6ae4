//! The grid: namespaces that share one arena and one budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::arena::Arena;
use super::block::{Home, Homes};
use super::budget::{Account, Pool, Usage};
use super::check;
use super::janitor::Janitor;
use super::namespace::Namespace;
use crate::limits::{
    BLOCK_SIZE_DEFAULT, BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, GRID_SIZE_MAX, GRID_SIZE_MIN, NAMESPACE_NAME_MAX,
    NAMESPACES_MAX,
};
use crate::{Error, ErrorKind, Result};

/// What a grid is made with.
#[derive(Clone, Copy, Debug)]
pub struct GridConfig {
    /// Budget: bound on the memory of all blocks and on the metadata together, 1 MiB to 16 TiB.
    pub size_bytes: u64,
    /// Most bytes in one block: a power of two, 4 KiB to 1 MiB.
    pub block_size: u32,
}

impl GridConfig {
    /// A grid of this size with blocks of the default size.
    pub fn with_size(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            block_size: BLOCK_SIZE_DEFAULT,
        }
    }

    fn check(&self) -> Result<()> {
        let Self {
            size_bytes,
            block_size,
        } = *self;
        let invalid = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what));
        if !block_size.is_power_of_two() || !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size) {
            return invalid(format!(
                "block size {block_size} is not a power of two from {BLOCK_SIZE_MIN} to {BLOCK_SIZE_MAX}"
            ));
        }
        if !(GRID_SIZE_MIN..=GRID_SIZE_MAX).contains(&size_bytes) {
            return invalid(format!(
                "grid size {size_bytes} is not within {GRID_SIZE_MIN} to {GRID_SIZE_MAX} bytes"
            ));
        }
        Ok(())
    }
}

/// Sparse arrays of memory blocks, one per namespace, under one budget.
///
/// Freed memory stays warm for up to a second, then a thread of the grid gives it back to the system. Namespaces and
/// blocks that outlive the grid stay usable; their memory goes back when the last of them ends.
pub struct Grid {
    pool: Arc<Pool>,
    homes: Arc<Homes>,
    /// By name. First in the lock order.
    namespaces: RwLock<BTreeMap<String, Arc<Namespace>>>,
    _janitor: Janitor,
}

impl Grid {
    /// An empty grid. Maps address space for it; memory is taken when blocks need it.
    ///
    /// A grid does not survive a fork(2): its thread stays with the parent.
    ///
    /// # Errors
    /// `InvalidArgument` for a size that is out of range; `NoMemory` where the host refuses address space or a
    /// thread.
    pub fn new(config: GridConfig) -> Result<Arc<Self>> {
        config.check()?;
        let arena = Arena::new(config.size_bytes, config.block_size)?;
        let pool = Arc::new(Pool::new(arena, config.size_bytes, config.block_size));
        let homes = Arc::new(Homes::default());
        Ok(Arc::new(Self {
            _janitor: Janitor::start(&pool, &homes)?,
            pool,
            homes,
            namespaces: RwLock::new(BTreeMap::new()),
        }))
    }

    /// Most bytes that a block holds: a power of two.
    pub fn block_size(&self) -> u32 {
        self.pool.block_size
    }

    /// The namespace of that name, made with this quota where missing.
    ///
    /// # Errors
    /// `InvalidArgument` for a name other than `[A-Za-z0-9._-]+` not beginning with a dot; `NameTooLong`; `NoSpace`
    /// where there are too many namespaces.
    pub fn create_namespace(
        self: &Arc<Self>,
        name: &str,
        quota_bytes: Option<u64>,
    ) -> Result<Arc<Namespace>> {
        check_name(name)?;
        let mut namespaces = self.namespaces.write();
        if let Some(present) = namespaces.get(name) {
            return Ok(present.clone());
        }
        if namespaces.len() >= NAMESPACES_MAX {
            return Err(Error::new(
                ErrorKind::NoSpace,
                format!("namespace {name}: the grid has {NAMESPACES_MAX} already: remove one"),
            ));
        }
        let account = Account::new(self.pool.clone(), quota_bytes);
        let fresh = Namespace::new(name, Home::new(account, self.homes.clone()));
        namespaces.insert(name.to_owned(), fresh.clone());
        Ok(fresh)
    }

    /// The namespace of that name.
    pub fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.read().get(name).cloned()
    }

    /// All namespaces, by name.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.read().values().cloned().collect()
    }

    /// Removes a namespace with its kept blocks. Whoever still has it finds it empty and can put nothing into it.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while blocks are lent out or metadata is charged.
    pub fn remove_namespace(&self, name: &str) -> Result<()> {
        let mut namespaces = self.namespaces.write();
        let namespace = namespaces
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no namespace {name}")))?;
        namespace.home.close().map_err(|_| {
            Error::new(
                ErrorKind::Busy,
                format!("namespace {name} is in use: blocks of it are lent out, or metadata is charged"),
            )
        })?;
        namespaces.remove(name);
        Ok(())
    }

    /// What all namespaces hold together, and the budget.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            limit_bytes: self.pool.size_bytes(),
            ..Usage::default()
        };
        for namespace in self.namespaces.read().values() {
            usage.add(&namespace.usage());
        }
        usage
    }

    /// Bytes of the arena that are backed by pages just now: at least what blocks hold.
    pub fn resident_bytes(&self) -> u64 {
        self.pool.arena.resident_bytes()
    }

    /// Gives the pages of all free slots back to the system now; returns how many bytes.
    pub fn trim(&self) -> u64 {
        self.pool.arena.trim()
    }

    /// Brings small blocks together on as few pages as they need, and gives all free memory back to the system now;
    /// returns how many bytes of the arena that freed. Takes time in proportion to all blocks, which others may use
    /// meanwhile.
    pub fn gather(&self) -> u64 {
        let before = self.resident_bytes();
        self.homes.gather(&self.pool);
        before.saturating_sub(self.resident_bytes())
    }

    /// Verifies every structure: free sets against blocks, index maps against blocks, figures against sums.
    ///
    /// Others may work meanwhile. Then figures and blocks are compared again until they hold still.
    ///
    /// # Errors
    /// `Corrupt`, naming the first rule that is broken; `Busy` where the grid never held still.
    pub fn check(&self) -> Result<()> {
        self.check_bytes()?;
        self.check_figures()
    }

    /// The part of [`Grid::check`] that reads every block. It takes as long as that takes, and nobody waits for it.
    ///
    /// # Errors
    /// `Corrupt`, naming the namespace.
    pub fn check_bytes(&self) -> Result<()> {
        check::check_bytes(&self.namespaces())
    }

    /// The other part: free sets and index maps against blocks, figures against sums. It is quick where nobody works
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Grid::check`].
    pub fn check_figures(&self) -> Result<()> {
        check::check_figures(&self.pool, || self.namespaces())
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.len() > NAMESPACE_NAME_MAX {
        return Err(Error::new(
            ErrorKind::NameTooLong,
            format!("namespace name {name:.16}… is longer than {NAMESPACE_NAME_MAX} bytes"),
        ));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("namespace name {name:?} is not of A-Z a-z 0-9 . _ - (not beginning with a dot)"),
        ));
    }
    Ok(())
}
