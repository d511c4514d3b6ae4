//! vhdx: Hyper-V's format, a header and one table above blocks of 1 to 256 MiB.
//!
//! The source is Microsoft's open specification [MS-VHDX]. All numbers are little-endian, all GUIDs as in memory.
//!
//! ```text
//! 0        64K      128K     192K      256K      1M
//! | "vhdx" | header | header | regions | regions | log | metadata | BAT | blocks, at multiples of 1 MiB
//!            the one with the                            |          |
//!            higher number counts                        |          +- bits 0-2: state, 20-63: offset in MiB
//!                                                        +- size, sector size, block size
//! ```
//!
//! Behind the entries of a chunk (2^23 sectors) the BAT has one for a bitmap, which only files with a parent use.

mod crc32c;
mod guids;
mod header;
mod metadata;
mod reader;
mod writer;

pub use reader::Vhdx;
pub use writer::VhdxWriter;

pub(super) use header::SIGNATURE;
