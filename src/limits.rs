//! Every bound of the crate, checked against each other at compile time.

/// Unit of sparseness: extents begin at multiples of it, and no page holds two extents.
pub const PAGE_SIZE: u64 = 4096;

/// Smallest and largest block size, and the default: powers of two.
pub const BLOCK_SIZE_MIN: u32 = 4 << 10;
/// See [`BLOCK_SIZE_MIN`].
pub const BLOCK_SIZE_MAX: u32 = 1 << 20;
/// See [`BLOCK_SIZE_MIN`].
pub const BLOCK_SIZE_DEFAULT: u32 = 64 << 10;

/// Block indexes have 48 bits: 0 to 2^48 - 1.
pub const BLOCK_INDEX_BITS: u32 = 48;
/// Namespaces in one grid.
pub const NAMESPACES_MAX: usize = 4096;
/// Bytes in a namespace's name: `[A-Za-z0-9._-]`, not beginning with a dot.
pub const NAMESPACE_NAME_MAX: usize = 64;

/// Smallest and largest budget that a grid accepts.
pub const GRID_SIZE_MIN: u64 = 1 << 20;
/// See [`GRID_SIZE_MIN`].
pub const GRID_SIZE_MAX: u64 = 1 << 44;
/// Bytes charged for a block beside its memory: an upper bound of its handle and its entry in the index map.
pub const BLOCK_COST: u64 = 160;
/// Shards of a namespace's index map: a power of two.
pub const INDEX_SHARDS: usize = 64;
/// Bytes charged for a sealed block: an upper bound of its entry in the table of seals.
pub const SEAL_COST: u64 = 64;
/// Shortest block that is sealed: an equal one saves more than its entry costs, even without counting `BLOCK_COST`.
pub const SEAL_LEN_MIN: u32 = 128;
/// The seals of a namespace take at most this share of the budget.
pub const SEAL_SHARE: u64 = 32;
/// Shards of a namespace's table of seals: a power of two.
pub const SEAL_SHARDS: usize = 16;
/// Pages of zeros in the middle of a block from which on they become a hole, which takes a block and an extent more.
pub const ZERO_PAGES_MIN: usize = 4;
/// What was left alone for this long is sealed; it may take twice as long.
pub const SEAL_IDLE_MS: u64 = 2000;
/// Bytes that one step of defragmentation moves; each file that it looks at counts as a page.
pub const DEFRAG_STEP_BYTES: u64 = 64 << 20;
/// Bytes of two files that one look for differences compares, and of which one look for equal pages shares; each extent
/// on the way counts as a page.
pub const DIFF_STEP_BYTES: u64 = 64 << 20;
/// Bytes of two files that are compared before others may overwrite them in place again; counted in the same way.
pub const DIFF_PIN_BYTES: u64 = 1 << 20;
/// Ranges that one look for differences of two images tells.
pub const IMAGE_RANGES_MAX: usize = 1 << 16;
/// Images are as long as disks can be: multiples of a sector.
pub const SECTOR_SIZE: u64 = 512;
/// Inodes that wait in line to be sealed. Where there are more, all inodes are looked at.
pub const SEAL_QUEUE_MAX: usize = 1 << 17;
/// Cells over which threads spread the figures of a namespace.
pub const FIGURE_CELLS: usize = 16;
/// Smallest unit in which the arena hands memory to a size class.
pub const SLAB_SIZE_MIN: u32 = 256 << 10;
/// Freed slots that a size class keeps at hand.
pub const WARM_SLOTS_MAX: usize = 1 << 16;
/// Freed memory goes back to the system when it was not used again for one to two of these.
pub const TRIM_INTERVAL_MS: u64 = 500;
/// What the process may hold beyond a grid's budget, for pages of which only a part is in use: this share of the
/// budget, and so many bytes.
pub const SLACK_SHARE: u64 = 32;
/// See [`SLACK_SHARE`].
pub const SLACK_BYTES: u64 = 32 << 20;
/// Free bytes on pages partly in use from which on small blocks are brought together.
pub const COMPACT_MIN: u64 = 4 << 20;
/// Share of the held bytes that must be scattered too, where nobody waits for memory.
pub const WASTE_SHARE: u64 = 8;
/// Free bytes of a volume below which writers wait for readers of a file before they write to it.
pub const ROOM_SCARCE: u64 = 1 << 20;
/// Shortest block that is compressed, in bytes.
pub const COMPRESS_MIN: u32 = 256;
/// Share of its memory that a block must save to be held compressed.
pub const COMPRESS_SAVING: u32 = 4;
/// Metadata that must have gone before the heap is asked to give pages back.
pub const HEAP_TRIM_MIN: u64 = 4 << 20;
/// Free bytes at the end of a part of the heap from which on they are given back at once.
pub const HEAP_TOP_MAX: i32 = 256 << 10;
/// Metadata that must have gone where it was more than half of all: no more than what could keep open some hundred pages.
pub const HEAP_TRIM_LEAST: u64 = 16 << 10;

/// Bytes in a file name (POSIX NAME_MAX).
pub const NAME_MAX: usize = 255;
/// Bytes in a symlink's target (Linux PATH_MAX less the NUL).
pub const SYMLINK_MAX: usize = 4095;
/// Hard links to one inode.
pub const LINK_MAX: u32 = u32::MAX / 2;
/// Largest file size and offset (off_t).
pub const FILE_SIZE_MAX: u64 = i64::MAX as u64;
/// Bytes in an extended attribute's name (Linux XATTR_NAME_MAX).
pub const XATTR_NAME_MAX: usize = 255;
/// Bytes in an extended attribute's value (Linux XATTR_SIZE_MAX).
pub const XATTR_SIZE_MAX: usize = 64 << 10;
/// Bytes in the list of an inode's attribute names (Linux XATTR_LIST_MAX).
pub const XATTR_LIST_MAX: usize = 64 << 10;

/// Bytes charged to the budget for an inode without its blocks, name and attributes; an upper bound of what the
/// process holds for it.
pub const INODE_COST: u64 = 512;
/// Bytes charged for a directory entry beside its name.
pub const DENTRY_COST: u64 = 96;
/// Bytes charged for an extended attribute beside its name and value.
pub const XATTR_COST: u64 = 256;
/// Bytes charged for a node of an extent map beside its items.
pub const NODE_COST: u64 = 96;

/// Bytes in a snapshot's name.
pub const SNAPSHOT_NAME_MAX: usize = 255;
/// An inode number holds the inode in its low bits, and above them the snapshot in which it is seen.
pub const INO_BITS: u32 = 44;
/// Snapshots that a volume makes in its life: their numbers are not used again. One more stands for the directories in
/// which they are shown.
pub const SNAPSHOTS_MAX: u64 = (1 << (u64::BITS - INO_BITS)) - 2;
/// Bytes charged for a snapshot; an upper bound of what the process holds for it.
pub const SNAPSHOT_COST: u64 = 512;
/// Bytes charged for an inode's state that a snapshot has kept, beside its attributes and entries.
pub const RECORD_COST: u64 = 512;

/// Bytes that one FUSE write request carries at most.
pub const FUSE_WRITE_MAX: u32 = 1 << 20;
/// Requests of the kernel's own (read-ahead) that may wait at a time.
pub const FUSE_BACKGROUND_MAX: u16 = 64;
/// Threads that serve one mount.
pub const FUSE_THREADS_MAX: usize = 8;
/// Bytes of a drive that the kernel's page cache may hold at least.
pub const PAGE_CACHE_MIN: u64 = 64 << 20;
/// Threads that serve one mount over io_uring, as long as each processor's queue has enough of them. Each has a buffer
/// of `FUSE_WRITE_MAX` bytes.
pub const URING_THREADS_MAX: usize = 64;
/// Threads for the queue of a processor at least, so that a long request does not stop the others.
pub const URING_QUEUE_THREADS_MIN: usize = 2;
/// Threads for the queue of a processor at most.
pub const URING_QUEUE_THREADS_MAX: usize = 4;

/// Connections to one control socket at a time.
pub const CONTROL_CONNECTIONS_MAX: usize = 8;
/// Bytes in the header of a control message.
pub const CONTROL_HEADER_MAX: usize = 1 << 20;
/// Bytes in the payload of a control message: the longest record that the control socket takes.
pub const CONTROL_PAYLOAD_MAX: usize = 64 << 20;
/// Keys in one answer.
pub const CONTROL_KEYS_MAX: usize = 4096;
/// Snapshots in one answer.
pub const CONTROL_SNAPSHOTS_MAX: usize = 1024;
/// Seconds that a peer may take to send a message or to take an answer.
pub const CONTROL_TIMEOUT_SECS: u64 = 10;

/// Exports of one drive at a time: listeners for its images. Each virtual machine of a /24 can have one.
pub const EXPORTS_MAX: usize = 256;
/// Bytes that one NBD request reads or writes at most.
pub const NBD_REQUEST_MAX: u32 = 32 << 20;
/// Bytes of an NBD request that are moved at a time, and so what a connection's buffer grows to.
pub const NBD_PIECE_MAX: usize = 256 << 10;
/// Bytes of NBD requests that a connection reads ahead.
pub const NBD_READ_AHEAD: usize = 64 << 10;
/// Steps in which holes are looked for in what an NBD client reads, to leave them out; shorter reads are not worth it.
pub const NBD_HOLE_STEP: u32 = 64 << 10;
/// Runs of data and holes in one answer to an NBD client.
pub const NBD_RUNS_MAX: usize = 4096;
/// Bytes in an NBD option that are understood.
pub const NBD_OPTION_MAX: u32 = 16 << 10;
/// Bytes in an NBD option that are read at all: one that is longer ends the connection.
pub const NBD_OPTION_SKIP_MAX: u32 = 64 << 10;
/// Bytes in a string of the NBD protocol.
pub const NBD_STRING_MAX: usize = 4096;
/// Connections to one NBD export at a time.
pub const NBD_CONNECTIONS_MAX: usize = 512;
/// Connections among them that have not finished their handshake: where there are more, the oldest of them ends.
pub const NBD_HANDSHAKES_MAX: usize = 64;
/// Seconds that a handshake may take.
pub const NBD_HANDSHAKE_SECS: u64 = 10;
/// Seconds that requests under way have to come to an end when an export ends.
pub const NBD_CLOSING_SECS: u64 = 2;

/// Bytes in the path of a file inside an image.
pub const BURN_PATH_MAX: usize = 4096;
/// Bytes of a directory inside an image that are looked through.
pub const BURN_DIRECTORY_MAX: u64 = 64 << 20;
/// Bytes of a file inside an image that are burned.
pub const BURN_ROOM_MAX: u64 = 1 << 20;
/// Bytes of a token at least, so that it is not met by chance.
pub const BURN_TOKEN_MIN: usize = 4;
/// Bytes of a token at most.
pub const BURN_TOKEN_MAX: usize = 256;
/// Members of a fleet.
pub const FLEET_MEMBERS_MAX: u32 = 1 << 16;
/// Places and texts that are burned into each member.
pub const FLEET_BURNS_MAX: usize = 64;
/// Name servers of a fleet.
pub const FLEET_DNS_MAX: usize = 16;
/// Bytes of user data on a seed disk.
pub const SEED_USER_DATA_MAX: usize = 512 << 10;
/// Bytes of an image that a disk's client has made zeros at a time.
pub const IMAGE_ZERO_PIECE_MAX: u64 = 64 << 20;
/// Queues of one vhost-user disk, each with a thread of its own.
pub const VHOST_QUEUES_MAX: u16 = 64;
/// Descriptors in a queue of a vhost-user disk: a power of two.
pub const VHOST_QUEUE_SIZE_MAX: u16 = 1024;
/// Descriptors of one request to a vhost-user disk, also where a table of its own holds them.
pub const VHOST_DESCRIPTORS_MAX: usize = 1024;
/// Segments of data in a request that a guest is asked for at most. With header and status they fit into a queue of 128
/// descriptors, which virtual machines have by default.
pub const VHOST_SEGMENTS_MAX: u32 = 126;
/// Requests of a queue after which its guest is told of those that are done.
pub const VHOST_BATCH_MAX: usize = 32;
/// Bytes of a request that are moved at a time, and so what a queue's buffer grows to.
pub const VHOST_PIECE_MAX: usize = 256 << 10;
/// Bytes that one range of a discard or write-zeroes request has at most.
pub const VHOST_ZERO_MAX: u64 = 2 << 30;
/// Ranges in one such request.
pub const VHOST_ZERO_RANGES_MAX: usize = 16;
/// Seconds that the threads of a vhost-user export have to end with it.
pub const VHOST_CLOSING_SECS: u64 = 2;
/// Entries in the L1 table of a qcow2 file, as many as QEMU takes.
pub const QCOW2_L1_LEN_MAX: u64 = 4 << 20;
/// Bytes that a packed cluster of a qcow2 file may refer back, in zstd's format.
pub const QCOW2_ZSTD_WINDOW_MAX: u64 = 8 << 20;
/// Bytes of a disk in a vhdx file.
pub const VHDX_SIZE_MAX: u64 = 64 << 40;
/// Files below one another that make up one imported disk.
pub const BACKING_CHAIN_MAX: usize = 16;
/// Bytes of a disk that are imported or exported at a time: a multiple of what a format keeps or leaves out together.
pub const COPY_PIECE: usize = 1 << 20;

const _: () = {
    assert!(BLOCK_SIZE_MIN.is_power_of_two() && BLOCK_SIZE_MAX.is_power_of_two());
    assert!(BLOCK_SIZE_DEFAULT.is_power_of_two());
    assert!(BLOCK_SIZE_MIN <= BLOCK_SIZE_DEFAULT && BLOCK_SIZE_DEFAULT <= BLOCK_SIZE_MAX);
    assert!(BLOCK_SIZE_MIN as u64 >= PAGE_SIZE && PAGE_SIZE.is_power_of_two());
    assert!(GRID_SIZE_MIN >= BLOCK_SIZE_MAX as u64);
    assert!(CONTROL_PAYLOAD_MAX >= BLOCK_SIZE_MAX as usize);
    assert!(CONTROL_HEADER_MAX >= CONTROL_KEYS_MAX * 64);
    assert!(CONTROL_HEADER_MAX >= CONTROL_SNAPSHOTS_MAX * (SNAPSHOT_NAME_MAX + 256));
    assert!(COPY_PIECE.is_multiple_of(64 << 10) && COPY_PIECE.is_multiple_of(PAGE_SIZE as usize));
    assert!(NBD_HANDSHAKES_MAX < NBD_CONNECTIONS_MAX);
    assert!(NBD_PIECE_MAX >= NBD_READ_AHEAD && NBD_PIECE_MAX <= NBD_REQUEST_MAX as usize);
    assert!(NBD_HOLE_STEP.is_power_of_two() && NBD_PIECE_MAX.is_multiple_of(NBD_HOLE_STEP as usize));
    assert!(NBD_OPTION_MAX as usize >= 4 * NBD_STRING_MAX && NBD_OPTION_MAX <= NBD_OPTION_SKIP_MAX);
    assert!(BURN_TOKEN_MIN > 0 && BURN_TOKEN_MIN < BURN_TOKEN_MAX && BURN_TOKEN_MAX < PAGE_SIZE as usize);
    assert!(BURN_ROOM_MAX <= BURN_DIRECTORY_MAX && BURN_ROOM_MAX as usize <= CONTROL_PAYLOAD_MAX / 8);
    assert!(VHOST_QUEUE_SIZE_MAX.is_power_of_two() && (VHOST_QUEUES_MAX as u32) <= u64::BITS);
    assert!(VHOST_SEGMENTS_MAX as usize + 2 <= VHOST_DESCRIPTORS_MAX);
    assert!(VHOST_PIECE_MAX.is_multiple_of(PAGE_SIZE as usize) && VHOST_ZERO_MAX.is_multiple_of(PAGE_SIZE));
    assert!(SNAPSHOTS_MAX + 1 < 1 << (u64::BITS - INO_BITS));
    assert!(SLAB_SIZE_MIN.is_power_of_two() && SLAB_SIZE_MIN <= BLOCK_SIZE_MAX);
    assert!(INDEX_SHARDS.is_power_of_two() && INDEX_SHARDS > 1);
    assert!(SEAL_SHARDS.is_power_of_two() && SEAL_SHARDS > 1);
    assert!(SEAL_COST < SEAL_LEN_MIN as u64);
};
