//! A charge that lives and ends with what it pays for.

use std::sync::Arc;

use super::block::Block;
use super::budget::Account;

/// Metadata of a namespace that is charged for as long as this lives, whether there is room or not.
///
/// It is for what must be had to take something away (a cut copies what it shares with others), and for what comes
/// along with blocks, which are refused where there is no room. Nothing else is charged past the bound, so it is
/// passed by no more than one operation needs.
pub struct Charge {
    /// *Immutable.*
    account: Arc<Account>,
    bytes: u64,
}

impl Charge {
    /// Charges the namespace of a block.
    pub fn beside(block: &Block, bytes: u64) -> Self {
        Self::of(block.account(), bytes)
    }

    /// Charges the same namespace once more.
    #[must_use]
    pub fn another(&self, bytes: u64) -> Self {
        Self::of(&self.account, bytes)
    }

    /// What is charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes what is charged.
    pub fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.account.charge_nodes(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.account.discharge_nodes(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    fn of(account: &Arc<Account>, bytes: u64) -> Self {
        account.charge_nodes(bytes);
        Self {
            account: Arc::clone(account),
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.discharge_nodes(self.bytes);
    }
}
