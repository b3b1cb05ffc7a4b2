//! The floors of `src`: a file uses only files below it. So no file imports another one that leads back to it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::Path,
};

use syn::{
    Ident, ItemMod, ItemUse, Macro, MetaList, UseTree,
    buffer::{Cursor, TokenBuffer},
    visit::{self, Visit},
};

/// A module: its crate, and the modules down to it.
type Module = Vec<String>;

/// Which file uses which.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// The crates of `src`, each with the file that it begins in.
const CRATES: [(&str, &str); 2] = [("speedcoding", "lib.rs"), ("main", "main.rs")];

/// The contents of the files. The test does not see a path in a string, as in an attribute of serde.
struct House<'a> {
    /// Each file's text.
    texts: &'a BTreeMap<String, String>,
    /// The file that holds each module.
    files: BTreeMap<Module, String>,
    /// The names that a module gives to items of other modules, and the paths of those items.
    names: BTreeMap<(Module, String), Vec<String>>,
    /// Every path, with the module that it is written in.
    paths: Vec<(Module, Vec<String>)>,
    /// The module that is being read.
    module: Module,
}

impl<'a> House<'a> {
    fn read(texts: &'a BTreeMap<String, String>) -> Self {
        let mut house = House {
            texts,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            paths: Vec::new(),
            module: Module::new(),
        };
        for (name, root) in CRATES {
            if texts.contains_key(root) {
                house.module = vec![name.to_owned()];
                house.read_file(root.to_owned());
            }
        }
        house
    }

    fn read_file(&mut self, file: String) {
        let source = syn::parse_file(&self.texts[&file]).unwrap_or_else(|e| panic!("{file}: {e}"));
        self.files.insert(self.module.clone(), file);
        self.visit_file(&source);
    }

    /// All names that a `use` brings, each with the path before it.
    fn bring(&mut self, tree: &UseTree, mut path: Vec<String>) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.bring(&part.tree, path);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.bring(tree, path.clone());
                }
            }
            UseTree::Glob(_) => self.paths.push((self.module.clone(), path)),
            UseTree::Name(name) => self.name(&name.ident, &name.ident, path),
            UseTree::Rename(name) => self.name(&name.ident, &name.rename, path),
        }
    }

    fn name(&mut self, item: &Ident, called: &Ident, mut path: Vec<String>) {
        let mut called = called.to_string();
        if item != "self" {
            path.push(item.to_string());
        } else if called == "self" {
            called = path.last().cloned().unwrap_or_default();
        }
        let name = (self.module.clone(), called);
        self.names.insert(name, path.clone());
        self.paths.push((self.module.clone(), path));
    }

    /// The paths among tokens that are not parsed as syntax yet.
    fn scan(&mut self, mut at: Cursor) {
        while !at.eof() {
            if let Some((inside, _, _, after)) = at.any_group() {
                self.scan(inside);
                at = after;
            } else if let Some((ident, after)) = at.ident() {
                let mut path = vec![ident.to_string()];
                at = after;
                while let Some((ident, after)) = next_segment(at) {
                    path.push(ident.to_string());
                    at = after;
                }
                self.write(path);
            } else if let Some((_, after)) = at.token_tree() {
                at = after;
            }
        }
    }

    fn write(&mut self, path: Vec<String>) {
        // A single name belongs to this module, or a `use` has brought it.
        if path.len() > 1 {
            self.paths.push((self.module.clone(), path));
        }
    }

    /// The file that holds the item of a path. Returns nothing if the path leads to another crate.
    fn file(&self, mut module: Module, path: &[String]) -> Option<&String> {
        for (at, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" => module.truncate(1),
                "super" => drop(module.pop()),
                "self" => {}
                name => {
                    let child = [module.as_slice(), &[name.to_owned()]].concat();
                    let library = vec![name.to_owned()];
                    let brought = self.names.get(&(module.clone(), name.to_owned()));
                    if self.files.contains_key(&child) {
                        module = child;
                    } else if at == 0 && self.files.contains_key(&library) {
                        module = library;
                    } else if let Some(brought) = brought.filter(|path| path[0] != name) {
                        return self.file(module, &[brought, &path[at + 1..]].concat());
                    } else if at == 0 {
                        return None;
                    } else {
                        break;
                    }
                }
            }
        }
        self.files.get(&module)
    }

    fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (module, path) in &self.paths {
            let from = &self.files[module];
            if let Some(to) = self.file(module.clone(), path).filter(|to| *to != from) {
                uses.entry(from.clone()).or_default().insert(to.clone());
            }
        }
        uses
    }
}

impl<'ast> Visit<'ast> for House<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        let path = self.module[1..].join("/");
        if item.content.is_some() {
            let file = self.files[&self.module[..self.module.len() - 1]].clone();
            self.files.insert(self.module.clone(), file);
            visit::visit_item_mod(self, item);
        } else {
            let files = [format!("{path}.rs"), format!("{path}/mod.rs")];
            let file = files.into_iter().find(|file| self.texts.contains_key(file));
            self.read_file(file.unwrap_or_else(|| panic!("no file of the module {path}")));
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.bring(&item.tree, Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        self.write(segments.map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.visit_path(&item.path);
        self.scan(TokenBuffer::new2(item.tokens.clone()).begin());
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        self.visit_path(&list.path);
        self.scan(TokenBuffer::new2(list.tokens.clone()).begin());
    }
}

/// `::` and a name.
fn next_segment(at: Cursor) -> Option<(Ident, Cursor)> {
    let (first, at) = at.punct()?;
    let (second, at) = at.punct()?;
    at.ident()
        .filter(|_| first.as_char() == ':' && second.as_char() == ':')
}

/// The shortest way from a file back to it.
fn way_back<'a>(uses: &'a Uses, start: &'a String) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![start.as_str()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in uses.get(*way.last()?).into_iter().flatten() {
            let longer = [way.as_slice(), &[next.as_str()]].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// The shortest circle: `a.rs -> b.rs -> a.rs`.
fn circle(uses: &Uses) -> Option<String> {
    let ways = uses.keys().filter_map(|start| way_back(uses, start));
    Some(ways.min_by_key(Vec::len)?.join(" -> "))
}

/// Every Rust file beneath a directory, by its path from there.
fn texts(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("beneath it").to_str();
            let text = fs::read_to_string(&path).expect("a file");
            found.insert(name.expect("UTF-8").to_owned(), text);
        }
    }
}

#[test]
fn no_file_of_src_imports_another_that_leads_back_to_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    texts(&src, &src, &mut found);
    let house = House::read(&found);
    let read: BTreeSet<&String> = house.files.values().collect();
    assert!(found.keys().eq(read), "a file belongs to no module");
    assert_eq!(circle(&house.uses()), None);
}

#[test]
fn a_circle_is_found_however_its_paths_are_written() {
    for (a, b, expected) in [
        ("use crate::b::B;", "use crate::a::A;", true),
        ("use crate::b::B;", "use std::fs;", false),
        ("use crate::b::B;", "", false),
        ("use crate::{b::{B as C, self}};", "use super::a;", true),
        (
            "fn f() { crate::b::f() }",
            "fn f() { use super::a; a::f() }",
            true,
        ),
        (
            "use super::b::*;",
            "fn f() { println!(\"{}\", crate::a::A) }",
            true,
        ),
        (
            "use self::super::b as c;",
            "#[x(y = crate::a::f)] struct B;",
            true,
        ),
        (
            "use crate::{\n    b,\n};",
            "mod inner { use super::super::a; }",
            true,
        ),
        // These files lead to `below`, which is a module of its own. So there is no circle, even where the name of
        // `below` was brought by the other file.
        ("use crate::b::below;", "pub use crate::below;", false),
        (
            "pub use crate::below;",
            "use crate::{a::below, below::X};",
            false,
        ),
    ] {
        let files = [
            ("lib.rs", "mod a; mod b; mod below;"),
            ("a.rs", a),
            ("b/mod.rs", b),
            ("below.rs", "pub struct X;"),
        ];
        let texts = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let found = circle(&House::read(&texts.into()).uses());
        let circle = "a.rs -> b/mod.rs -> a.rs";
        assert_eq!(found.as_deref(), expected.then_some(circle), "{a}\n{b}");
    }
}
