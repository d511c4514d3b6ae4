//! Tokens that stand for a text: each is in the image exactly once.

use memchr::memmem::Finder;

use super::disk::ReadAt;
use super::locate::checked_by;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BURN_TOKEN_MAX, BURN_TOKEN_MIN};
use crate::range::ByteRange;

/// Bytes that are searched at a time.
const PIECE: usize = 1 << 20;

/// A token and where it was seen.
struct Search<'t> {
    token: &'t str,
    finder: Finder<'t>,
    found: Option<u64>,
}

/// The offsets of tokens, in their order. Holes are passed over.
///
/// # Errors
/// `InvalidArgument` for a token that is too short or too long, is there twice, or lies where a checksum covers it;
/// `NotFound` for one that is not there.
pub fn find_tokens(disk: &dyn ReadAt, tokens: &[&str]) -> Result<Vec<u64>> {
    let mut searches = tokens
        .iter()
        .map(|token| Search::new(token))
        .collect::<Result<Vec<_>>>()?;
    let (mut buffer, mut from) = (Vec::new(), 0);
    while let Some(data) = disk.next_data(from)?.filter(|data| data.end > from) {
        if data.start > from {
            buffer.clear();
        }
        for piece in pieces(data.start.max(from), data.end) {
            search_piece(disk, piece, &mut buffer, &mut searches)?;
        }
        from = data.end;
    }
    searches.iter().map(|search| search.only(disk)).collect()
}

fn pieces(start: u64, end: u64) -> impl Iterator<Item = ByteRange> {
    (start..end).step_by(PIECE).map(move |start| ByteRange {
        start,
        end: end.min(start.saturating_add(PIECE as u64)),
    })
}

/// Searches a piece, and before it the last bytes of the one in the buffer, in which a token may begin.
fn search_piece(
    disk: &dyn ReadAt,
    piece: ByteRange,
    buffer: &mut Vec<u8>,
    searches: &mut [Search<'_>],
) -> Result<()> {
    let kept = buffer.len().min(BURN_TOKEN_MAX - 1);
    buffer.drain(..buffer.len() - kept);
    buffer.resize(kept + piece.len() as usize, 0);
    disk.read_at(piece.start, &mut buffer[kept..])?;
    for search in searches {
        search.add(buffer, piece.start - kept as u64, kept)?;
    }
    Ok(())
}

impl<'t> Search<'t> {
    fn new(token: &'t str) -> Result<Self> {
        if !(BURN_TOKEN_MIN..=BURN_TOKEN_MAX).contains(&token.len()) || token.contains('\0') {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "`{}` is no token\nhint: one has {BURN_TOKEN_MIN} to {BURN_TOKEN_MAX} bytes, as in @@IP_ADDRESS@@",
                    token.escape_debug()
                ),
            ));
        }
        Ok(Self {
            token,
            finder: Finder::new(token),
            found: None,
        })
    }

    /// Looks through bytes from `offset` on, of which the first `kept` were looked through before.
    fn add(&mut self, bytes: &[u8], offset: u64, kept: usize) -> Result<()> {
        // One that ends in the kept bytes was found in the last piece.
        let skipped = (kept + 1).saturating_sub(self.token.len());
        let mut from = skipped;
        while let Some(at) = self.finder.find(&bytes[from..]) {
            // Two can overlap, and then none of them is the only one.
            from += at + 1;
            let at = offset + (from - 1) as u64;
            if let Some(first) = self.found.replace(at) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "{} is in the base more than once, at bytes {first} and {at}\n\
                         hint: use another token for each text, and trim deleted files away (fstrim, zerofree)",
                        self.token.escape_debug()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn only(&self, disk: &dyn ReadAt) -> Result<u64> {
        let Some(at) = self.found else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "{} is not in the base\nhint: put it into a file there, as text in one piece",
                    self.token.escape_debug()
                ),
            ));
        };
        match checked_by(disk, at)? {
            Some(what) => Err(Error::new(
                ErrorKind::NotSupported,
                format!(
                    "{} lies in {what}\nhint: pad the file to 4096 bytes, on ext4, ext2 or FAT",
                    self.token.escape_debug()
                ),
            )),
            None => Ok(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data between holes: bytes outside of it must not be read.
    struct Sparse {
        bytes: Vec<u8>,
        data: Vec<(u64, u64)>,
    }

    impl ReadAt for Sparse {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
            (&self.bytes[..]).read_at(offset, out)
        }

        fn next_data(&self, offset: u64) -> Result<Option<ByteRange>> {
            let run = self.data.iter().find(|(_, end)| *end > offset);
            Ok(run.map(|&(start, end)| ByteRange {
                start: start.max(offset),
                end,
            }))
        }
    }

    fn find(bytes: &[u8], tokens: &[&str]) -> Result<Vec<u64>> {
        find_tokens(&bytes, tokens)
    }

    #[test]
    fn a_token_is_found_wherever_pieces_meet() {
        for at in (PIECE - 20..PIECE + 5).chain([0, 3 * PIECE - 10]) {
            let mut disk = vec![b'@'; 3 * PIECE];
            disk[at..at + 10].copy_from_slice(b"@@TOKEN_@.");
            assert_eq!(find(&disk, &["@TOKEN_@."]).unwrap(), [at as u64 + 1], "at {at}");
        }
    }

    #[test]
    fn a_token_must_be_there_once() {
        let kind = |bytes: &[u8], token: &str| find(bytes, &[token]).unwrap_err().kind();
        assert_eq!(kind(b"nothing to be found", "@@T@@"), ErrorKind::NotFound);
        assert_eq!(kind(b"@@T@@ and @@T@@", "@@T@@"), ErrorKind::InvalidArgument);
        assert_eq!(
            kind(b"@@IP@@IP@@", "@@IP@@"),
            ErrorKind::InvalidArgument,
            "they overlap"
        );
        assert_eq!(kind(b"@@@@@", "@@@@"), ErrorKind::InvalidArgument, "they overlap");
        assert_eq!(kind(b"@@T@@", "@@"), ErrorKind::InvalidArgument);
        assert_eq!(kind(b"@@T@@", &"@".repeat(300)), ErrorKind::InvalidArgument);
        let mut disk = vec![0; 2 * PIECE];
        disk[10..15].copy_from_slice(b"@@T@@");
        disk[PIECE - 2..PIECE + 3].copy_from_slice(b"@@T@@");
        assert_eq!(kind(&disk, "@@T@@"), ErrorKind::InvalidArgument);
    }

    #[test]
    fn several_tokens_are_found_at_a_time_and_holes_are_passed_over() {
        let mut bytes = vec![0; 3 << 12];
        bytes[4096..4101].copy_from_slice(b"@@A@@");
        bytes[8190..8196].copy_from_slice(b"@@BB@@");
        bytes[0..5].copy_from_slice(b"@@A@@");
        let disk = Sparse {
            bytes,
            data: vec![(4096, 8192), (8192, 12288)],
        };
        assert_eq!(find_tokens(&disk, &["@@A@@"]).unwrap(), [4096]);
        // Two runs side by side, as a filesystem may tell them.
        assert_eq!(find_tokens(&disk, &["@@BB@@", "@@A@@"]).unwrap(), [8190, 4096]);
    }
}
