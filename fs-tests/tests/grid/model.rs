//! Random operations on a grid and on a map of vectors give the same results and the same contents.

use std::collections::HashMap;
use std::sync::Arc;

use okapi::ErrorKind;
use okapi::grid::{Block, Codec, Namespace, Press};

use crate::{BLOCK, Random, at, bytes_of, put, read, slice, space};

#[test]
fn a_grid_behaves_like_its_model() {
    let mut random = Random::new("model");
    let (grid, space) = space(2 << 20);
    let mut model = Model {
        space: space.clone(),
        kept: HashMap::new(),
        lent: Vec::new(),
        press: Press::new(Codec::Lz4),
    };
    for step in 0..60_000 {
        if step == 30_000 {
            model.press = Press::new(Codec::Zstd);
        }
        model.step(&mut random);
        if step % 5000 == 0 {
            model.compare();
            grid.check().unwrap();
            grid.trim();
        }
    }
    model.compare();
    drop(model);
    grid.check().unwrap();
    let keys: Vec<_> = space.keys(at(0), usize::MAX);
    for (index, _) in keys {
        space.put(&[(index, 0, b"")]).unwrap();
    }
    let usage = grid.usage();
    assert_eq!((usage.blocks, usage.held_bytes, usage.metadata_bytes), (0, 0, 0));
    grid.trim();
    assert_eq!(grid.resident_bytes(), 0);
}

struct Model {
    space: Arc<Namespace>,
    kept: HashMap<u64, Vec<u8>>,
    lent: Vec<(Block, Vec<u8>)>,
    press: Press,
}

impl Model {
    /// Indexes of kept blocks in the model are above those that are lent.
    const KEPT: u64 = 1 << 40;

    fn step(&mut self, random: &mut Random) {
        match random.below(13) {
            0..=2 => self.put(random),
            3 => self.delete(random),
            4 | 5 => self.lend(random),
            6 | 7 => self.write(random),
            8 => self.truncate(random),
            9 => self.keep(random),
            10 | 11 => self.compress(random),
            _ => self.end(random),
        }
    }

    /// Bytes of which about half compress.
    fn bytes(random: &mut Random, len: u32) -> Vec<u8> {
        match random.below(2) {
            0 => random.bytes(len as usize),
            _ => vec![random.next() as u8; len as usize],
        }
    }

    fn put(&mut self, random: &mut Random) {
        let count = 1 + random.below(4) as usize;
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let index = Self::KEPT + random.below(150);
                let offset = random.len(BLOCK - 1);
                let len = random.len(BLOCK - offset);
                (index, offset, Self::bytes(random, len))
            })
            .collect();
        let borrowed: Vec<_> = requests
            .iter()
            .map(|(index, offset, bytes)| (at(*index), *offset, bytes.as_slice()))
            .collect();
        if let Err(error) = self.space.put(&borrowed) {
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            return;
        }
        for (index, offset, bytes) in requests {
            if bytes.is_empty() {
                self.kept.remove(&index);
            } else {
                overlay(self.kept.entry(index).or_default(), offset, &bytes);
            }
        }
    }

    fn delete(&mut self, random: &mut Random) {
        let index = Self::KEPT + random.below(150);
        put(&self.space, index, 0, b"").unwrap();
        self.kept.remove(&index);
    }

    fn lend(&mut self, random: &mut Random) {
        let zeros = random.len(BLOCK);
        let len = random.len(BLOCK - zeros);
        let bytes = Self::bytes(random, len);
        match self.space.new_block(zeros, &bytes) {
            Ok(block) => {
                let mut content = vec![0; zeros as usize];
                content.extend(bytes);
                self.lent.push((block, content));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace),
        }
    }

    fn write(&mut self, random: &mut Random) {
        let Some(position) = self.pick(random) else { return };
        let (block, content) = &mut self.lent[position];
        let append = random.below(2) == 0;
        let offset = if append { block.len() } else { random.len(BLOCK) };
        let len = random.len(BLOCK - offset);
        let bytes = Self::bytes(random, len);
        match block.write(offset, &bytes) {
            Ok(()) => overlay(content, offset, &bytes),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NoSpace),
        }
    }

    fn truncate(&mut self, random: &mut Random) {
        let Some(position) = self.pick(random) else { return };
        let (block, content) = &mut self.lent[position];
        let len = random.len(BLOCK);
        block.truncate(len);
        content.truncate(len as usize);
    }

    fn keep(&mut self, random: &mut Random) {
        let Some(position) = self.pick(random) else { return };
        let (block, content) = &mut self.lent[position];
        let offset = random.len(BLOCK);
        let len = random.len(BLOCK - offset);
        if block.keep(slice(offset, len)) {
            content.truncate((offset + len) as usize);
            content.drain(..content.len().min(offset as usize));
        }
    }

    fn compress(&mut self, random: &mut Random) {
        let Some(position) = self.pick(random) else { return };
        let (block, _) = &self.lent[position];
        let held = block.held_bytes();
        if block.pack(&mut self.press) && block.compress(&self.press) {
            assert!(block.held_bytes() < held);
        }
    }

    fn end(&mut self, random: &mut Random) {
        if let Some(position) = self.pick(random) {
            self.lent.swap_remove(position);
        }
    }

    fn pick(&self, random: &mut Random) -> Option<usize> {
        let count = self.lent.len() as u64;
        (count > 0).then(|| random.below(count) as usize)
    }

    fn compare(&self) {
        for (&index, content) in &self.kept {
            assert_eq!(&read(&self.space, index), content);
        }
        for (block, content) in &self.lent {
            assert_eq!(&bytes_of(block), content);
            assert_eq!(&read(&self.space, block.index().get()), content);
        }
        let lent = self
            .lent
            .iter()
            .map(|(block, content)| (block.index().get(), content.len()));
        let kept = self.kept.iter().map(|(&index, content)| (index, content.len()));
        let mut expected: Vec<_> = lent.chain(kept).collect();
        expected.sort_unstable();
        let keys: Vec<_> = self
            .space
            .keys(at(0), usize::MAX)
            .into_iter()
            .map(|(index, len)| (index.get(), len as usize))
            .collect();
        assert_eq!(keys, expected);
        let stored: usize = expected.iter().map(|(_, len)| len).sum();
        assert_eq!(self.space.usage().stored_bytes, stored as u64);
    }
}

fn overlay(content: &mut Vec<u8>, offset: u32, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}
