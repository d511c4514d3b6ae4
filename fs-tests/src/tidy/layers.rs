//! The rules about which module may name which: only downwards, and never in a circle.

use std::collections::BTreeMap;

use super::imports::{Crate, Module};
use super::source::Source;

/// Ranks of the top modules; a module names only those of a lower rank. docs/architecture.md draws them.
const RANKS: [(&str, usize); 14] = [
    ("error", 0),
    ("limits", 0),
    ("range", 0),
    ("clock", 0),
    ("linger", 0),
    ("grid", 1),
    ("extent", 2),
    ("store", 2),
    ("vfs", 3),
    ("image", 4),
    ("fs", 4),
    ("serve", 5),
    ("cli", 6),
    ("main", 7),
];

/// Modules whose children must not name each other.
const STRANGERS: [&str; 1] = ["serve"];

/// Imports that go up or sideways, and modules that have no rank.
pub fn upward_imports(sources: &[Source]) -> Vec<String> {
    let krate = Crate::new(sources);
    let mut wrong = Vec::new();
    for module in krate.modules().filter(|module| !module.is_empty()) {
        let Some(rank) = rank(module) else {
            wrong.push(format!("{}: has no rank in the layers", show(module)));
            continue;
        };
        for used in krate.used_by(module) {
            if let Some(reason) = import_error(module, rank, &used) {
                wrong.push(format!("{}: imports {}, {reason}", show(module), show(&used)));
            }
        }
    }
    wrong
}

fn import_error(module: &Module, own: usize, used: &Module) -> Option<&'static str> {
    let Some(rank) = rank(used) else {
        return Some("which no layer owns");
    };
    if module[0] != used[0] {
        // the modules of rank 0 are one floor; circles between them are found by the other rule
        return (rank > own || rank == own && own > 0).then_some("which lies above or beside it");
    }
    let strangers = STRANGERS.contains(&module[0].as_str()) && module.len() > 1 && used.len() > 1;
    (strangers && module[1] != used[1]).then_some("which is a stranger beside it")
}

fn rank(module: &Module) -> Option<usize> {
    let top = module.first()?;
    RANKS.iter().find(|(name, _)| name == top).map(|(_, rank)| *rank)
}

/// Circles of modules that need each other.
pub fn cycles(sources: &[Source]) -> Vec<String> {
    let krate = Crate::new(sources);
    let mut search = Search {
        krate: &krate,
        done: BTreeMap::new(),
        path: Vec::new(),
        circles: Vec::new(),
    };
    for module in krate.modules() {
        search.visit(module);
    }
    search.circles
}

/// A depth-first search: a module met again while it is on the path closes a circle.
struct Search<'c> {
    krate: &'c Crate,
    done: BTreeMap<Module, bool>,
    path: Vec<Module>,
    circles: Vec<String>,
}

impl Search<'_> {
    fn visit(&mut self, module: &Module) {
        match self.done.get(module) {
            Some(true) => return,
            Some(false) => {
                let start = self.path.iter().position(|on| on == module).unwrap_or(0);
                let circle: Vec<_> = self.path[start..].iter().chain([module]).map(show).collect();
                self.circles.push(circle.join(" -> "));
                return;
            }
            None => (),
        }
        self.done.insert(module.clone(), false);
        self.path.push(module.clone());
        for used in self.krate.used_by(module) {
            self.visit(&used);
        }
        self.path.pop();
        self.done.insert(module.clone(), true);
    }
}

fn show(module: &Module) -> String {
    match module.is_empty() {
        true => "lib".into(),
        false => module.join("::"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Vec<Source> {
        files.iter().map(|(path, text)| Source::new(path, text)).collect()
    }

    #[test]
    fn an_import_upwards_sideways_or_between_frontends_is_found() {
        let sources = tree(&[
            ("src/lib.rs", "pub mod grid;"),
            ("src/grid/mod.rs", "use crate::fs::Volume;"),
            (
                "src/extent/mod.rs",
                "use crate::store::Pack; use crate::grid::Grid;",
            ),
            ("src/store/mod.rs", ""),
            ("src/fs/mod.rs", "fn f() { crate::cli::run() }"),
            ("src/cli/mod.rs", "use crate::serve::fuse;"),
            ("src/serve/fuse/mod.rs", "use crate::serve::nbd::Server;"),
            ("src/serve/nbd.rs", "use super::super::vfs::Vfs;"),
            ("src/serve/mod.rs", "mod fuse;\nmod nbd;"),
            ("src/vfs.rs", ""),
            ("src/extra.rs", ""),
        ]);
        assert_eq!(
            upward_imports(&sources),
            [
                "extent: imports store, which lies above or beside it",
                "extra: has no rank in the layers",
                "fs: imports cli, which lies above or beside it",
                "grid: imports fs, which lies above or beside it",
                "serve::fuse: imports serve::nbd, which is a stranger beside it",
            ]
        );
    }

    #[test]
    fn a_circle_of_files_is_found_and_a_tree_is_none() {
        let circle = tree(&[
            ("src/grid/mod.rs", "mod a;\nmod b;\nmod c;\npub use a::A;"),
            ("src/grid/a.rs", "use super::b::B;"),
            ("src/grid/b.rs", "use super::c::C;"),
            ("src/grid/c.rs", "use super::A;"),
        ]);
        assert_eq!(cycles(&circle), ["grid::a -> grid::b -> grid::c -> grid::a"]);
        assert_eq!(cycles(&circle[..3]), Vec::<String>::new());
    }
}
