//! Which modules a file names, by its `use` lines and its inline paths.

use std::collections::{BTreeMap, BTreeSet};

use super::lexer::is_word;
use super::source::Source;

/// Path of a module from the crate's root: `fs::rename` is `["fs", "rename"]`.
pub(super) type Module = Vec<String>;

/// A path that a file names, from the crate's root, and whether it only hands it on (`pub use`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    path: Module,
    handed_on: bool,
}

/// The modules of a crate, and what each of them names.
pub(super) struct Crate {
    named: BTreeMap<Module, BTreeSet<Named>>,
}

impl Crate {
    /// Reads the sources below `src/`.
    pub(super) fn new(sources: &[Source]) -> Self {
        let modules = sources.iter().filter(|source| source.is_rust());
        let named = modules.filter_map(|source| {
            let module = module_of(&source.path)?;
            let named = named_paths(&source.code(), &module);
            Some((module, named))
        });
        Self {
            named: named.collect(),
        }
    }

    pub(super) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.named.keys()
    }

    /// Modules whose items `module` uses, itself left out. What it only hands on does not count.
    pub(super) fn used_by(&self, module: &Module) -> BTreeSet<Module> {
        let named = self.named.get(module).into_iter().flatten();
        named
            .filter(|named| !named.handed_on)
            .map(|named| self.owner(&named.path, 0))
            .filter(|owner| owner != module)
            .collect()
    }

    /// The module that owns what a path leads to: modules that only hand it on are looked through.
    fn owner(&self, path: &Module, depth: usize) -> Module {
        let len = (0..=path.len())
            .rev()
            .find(|len| self.named.contains_key(&path[..*len]));
        let Some(len) = len else { return Module::new() };
        let (module, item) = path.split_at(len);
        let Some(item) = item.first().filter(|_| depth < 8) else {
            return module.to_vec();
        };
        let source = self.named[module]
            .iter()
            .find(|named| named.handed_on && named.path.last() == Some(item));
        match source {
            Some(source) if source.path != *path => self.owner(&source.path, depth + 1),
            _ => module.to_vec(),
        }
    }
}

/// `src/fs/rename.rs` is `fs::rename`; what is not below `src/` and test files are no modules.
fn module_of(path: &str) -> Option<Module> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut module: Module = inside.split('/').map(str::to_owned).collect();
    match module.last()?.as_str() {
        "mod" | "lib" => {
            module.pop();
        }
        "tests" => return None,
        _ => (),
    }
    Some(module)
}

fn named_paths(code: &str, module: &Module) -> BTreeSet<Named> {
    let children = child_modules(code);
    let mut named = BTreeSet::new();
    let bytes = code.as_bytes();
    for (at, _) in code.match_indices("::") {
        let start = (0..at)
            .rev()
            .find(|at| !is_word(bytes[*at]))
            .map_or(0, |before| before + 1);
        let behind_path = start >= 2 && &bytes[start - 2..start] == b"::";
        let root = match &code[start..at] {
            _ if behind_path => continue,
            "crate" | "okapi" => Module::new(),
            "self" => module.clone(),
            "super" => module[..module.len().saturating_sub(1)].to_vec(),
            child if children.contains(child) => [module.as_slice(), &[child.to_owned()]].concat(),
            _ => continue,
        };
        let statement = code[..start].rfind([';', '}']).map_or(0, |end| end + 1);
        let handed_on = code[statement..start].trim_start().starts_with("pub use");
        let mut paths = Vec::new();
        expand(&code[at + 2..], root, &mut paths);
        named.extend(paths.into_iter().map(|path| Named { path, handed_on }));
    }
    named.extend(children.iter().filter_map(|child| {
        let plain = format!("use {child};");
        code.contains(&plain).then(|| Named {
            path: [module.as_slice(), std::slice::from_ref(child)].concat(),
            handed_on: false,
        })
    }));
    named
}

fn child_modules(code: &str) -> BTreeSet<String> {
    code.lines()
        .filter_map(|line| {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
        })
        .collect()
}

/// Adds the paths that `a::{b, c::d}` stands for, and returns the rest of the text.
fn expand<'t>(text: &'t str, mut path: Module, paths: &mut Vec<Module>) -> &'t str {
    let mut text = text.trim_start();
    loop {
        if let Some(inside) = text.strip_prefix('{') {
            return expand_group(inside, &path, paths);
        }
        let len = text.bytes().take_while(|byte| is_word(*byte)).count();
        match &text[..len] {
            "super" => {
                path.pop();
            }
            "self" | "" => (),
            word => path.push(word.to_owned()),
        }
        text = &text[len..];
        match text.strip_prefix("::") {
            Some(rest) => text = rest.trim_start(),
            None => {
                paths.push(path);
                return text;
            }
        }
    }
}

fn expand_group<'t>(mut text: &'t str, path: &Module, paths: &mut Vec<Module>) -> &'t str {
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return rest;
        }
        if text.is_empty() {
            return text;
        }
        text = expand(text, path.clone(), paths);
        // what is left of an element (`as name`, `*`) says nothing about modules
        let end = text.find([',', '}']).unwrap_or(text.len());
        text = text[end..].strip_prefix(',').unwrap_or(&text[end..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        path.split("::")
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn groups_supers_and_inline_paths_are_followed_to_their_modules() {
        let krate = Crate::new(&[
            Source::new(
                "src/lib.rs",
                "pub mod error;\npub mod fs;\npub mod grid;\npub use error::{Error, Result};",
            ),
            Source::new("src/error.rs", "pub struct Error;"),
            Source::new("src/grid/mod.rs", "mod arena;\npub use arena::Arena;"),
            Source::new("src/grid/arena.rs", "use std::fmt;"),
            Source::new("src/fs/mod.rs", "mod file;\nmod names;"),
            Source::new(
                "src/fs/file.rs",
                "pub struct File; fn f() -> crate::Result<()> {}",
            ),
            Source::new(
                "src/fs/names.rs",
                "use super::{file::{self, File as F}, *};\nuse crate::{grid::Arena};\n// use crate::cli;",
            ),
        ]);
        let used = |path: &str| krate.used_by(&module(path));
        assert_eq!(used("fs::file"), BTreeSet::from([module("error")]));
        assert_eq!(
            used("fs::names"),
            BTreeSet::from([module("fs"), module("fs::file"), module("grid::arena")])
        );
        assert_eq!(used("grid"), BTreeSet::new());
        assert_eq!(used(""), BTreeSet::new());
    }
}
