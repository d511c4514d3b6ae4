//! The program as people run it: what it prints, how it exits, what it leaves behind.

mod asking;
mod blocks;
mod clone;
mod compressing;
mod dedup;
mod defrag;
mod du;
mod lifecycle;
mod mounting;
mod snapshots;
mod support;
mod users;
