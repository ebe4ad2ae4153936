//! No module imports one that imports it, be it over others: a newcomer can read a crate from the ground up.
//!
//! Every path counts that names a module of the crate, in a `use` or in the middle of a line.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};

use crate::modules::{self, ModulePath, inside, is_group, is_sign, is_word};

/// What each module imports.
type Imports = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

/// Reads the paths of one module.
struct Paths<'a> {
    all: &'a BTreeSet<ModulePath>,
    found: BTreeSet<ModulePath>,
}

impl Paths<'_> {
    /// Of what stands in the module at `here`, which may be one within a file.
    fn read(&mut self, tokens: &[TokenTree], here: &ModulePath) {
        let mut at = 0;
        while at < tokens.len() {
            if is_word(tokens.get(at), "mod") && is_group(tokens.get(at + 2), Delimiter::Brace) {
                let inner = [&here[..], &[tokens[at + 1].to_string()]].concat();
                self.read(&inside(&tokens[at + 2]), &inner);
                at += 3;
            } else if is_word(tokens.get(at), "pub")
                && is_group(tokens.get(at + 1), Delimiter::Parenthesis)
            {
                // Who may see it is no import.
                at += 2;
            } else if is_word(tokens.get(at), "use") {
                let (from, len) = self.begins(&tokens[at + 1..], here);
                let tree = &tokens[at + 1 + len..];
                if let Some(from) = from {
                    self.tree(tree, from);
                }
                let rest = tokens[at..].iter().position(|it| is_sign(Some(it), ';'));
                at += rest.expect("an import ends");
            } else if is_path(&tokens[at..]) {
                at += self.path(&tokens[at..], here);
            } else {
                self.read(&inside(&tokens[at]), here);
                at += 1;
            }
        }
    }

    /// The module that a path begins at, and how many tokens say so; `None` for another crate, or a name.
    fn begins(&self, tokens: &[TokenTree], here: &ModulePath) -> (Option<ModulePath>, usize) {
        let word = |word| is_word(tokens.first(), word) && is_path(tokens);
        if word("crate") {
            return (Some(Vec::new()), 3);
        }
        if word("self") {
            return (Some(here.clone()), 3);
        }
        let mut len = 0;
        let mut module = here.clone();
        while is_word(tokens.get(len), "super") && is_path(&tokens[len..]) {
            module.pop().expect("a module above the root");
            len += 3;
        }
        if len > 0 {
            return (Some(module), len);
        }
        let child = tokens.first().map(ToString::to_string).unwrap_or_default();
        let is_child = self.all.contains(&[&here[..], &[child]].concat());
        (is_child.then(|| here.clone()), 0)
    }

    /// A path in the middle of a line; returns how many tokens it has.
    fn path(&mut self, tokens: &[TokenTree], here: &ModulePath) -> usize {
        let (from, mut len) = self.begins(tokens, here);
        let mut path = from.clone().unwrap_or_default();
        while let Some(TokenTree::Ident(name)) = tokens.get(len) {
            path.push(name.to_string());
            len += 1;
            if !(is_sign(tokens.get(len), ':') && is_sign(tokens.get(len + 1), ':')) {
                break;
            }
            len += 2;
        }
        if from.is_some() {
            self.found(path);
        }
        len
    }

    /// What follows the beginning of a `use`: a name, or several in braces.
    fn tree(&mut self, tokens: &[TokenTree], mut path: ModulePath) {
        let mut at = 0;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(name)) if name == "super" => {
                    path.pop().expect("a module above the root");
                }
                Some(TokenTree::Ident(name)) if name == "self" => {}
                Some(TokenTree::Ident(name)) => path.push(name.to_string()),
                Some(group @ TokenTree::Group(_)) => {
                    let inner = inside(group);
                    let one = inner.split(|token| is_sign(Some(token), ','));
                    for one in one.filter(|one| !one.is_empty()) {
                        self.tree(one, path.clone());
                    }
                    return;
                }
                _ => {}
            }
            if !is_path(&tokens[at.min(tokens.len())..]) {
                return self.found(path);
            }
            at += 3;
        }
    }

    /// The deepest module that a path names.
    fn found(&mut self, mut path: ModulePath) {
        while !self.all.contains(&path) {
            path.pop().expect("the root is a module");
        }
        self.found.insert(path);
    }
}

/// Whether a word is followed by `::`.
fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Ident(_)))
        && is_sign(tokens.get(1), ':')
        && is_sign(tokens.get(2), ':')
}

fn imports_of(modules: &BTreeMap<ModulePath, Vec<TokenTree>>) -> Imports {
    let all: BTreeSet<_> = modules.keys().cloned().collect();
    let imports = modules.iter().map(|(module, tokens)| {
        let mut paths = Paths {
            all: &all,
            found: BTreeSet::new(),
        };
        paths.read(tokens, module);
        paths.found.remove(module);
        (module.clone(), paths.found)
    });
    imports.collect()
}

/// The same between folders: each module counts as the one that the crate's root declares.
fn of_folders(imports: &Imports) -> Imports {
    let folder = |module: &ModulePath| module.iter().take(1).cloned().collect::<ModulePath>();
    let mut folders = Imports::new();
    for (module, imported) in imports {
        let from = folder(module);
        let others = imported.iter().map(folder).filter(|to| *to != from);
        folders.entry(from.clone()).or_default().extend(others);
    }
    folders
}

/// A circle as the names of its modules, if there is one.
fn circle(imports: &Imports) -> Option<String> {
    fn visit(
        module: &ModulePath,
        imports: &Imports,
        way: &mut Vec<ModulePath>,
        done: &mut BTreeSet<ModulePath>,
    ) -> Option<String> {
        if let Some(begin) = way.iter().position(|before| before == module) {
            let name = |module: &ModulePath| format!("crate::{}", module.join("::"));
            let circle: Vec<_> = way[begin..].iter().chain([module]).map(name).collect();
            return Some(circle.join(" -> "));
        }
        if done.contains(module) {
            return None;
        }
        way.push(module.clone());
        let imported = imports.get(module).into_iter().flatten();
        let found = imported
            .into_iter()
            .find_map(|next| visit(next, imports, way, done));
        way.pop();
        done.insert(module.clone());
        found
    }
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|module| visit(module, imports, &mut Vec::new(), &mut done))
}

#[test]
fn no_module_of_bench_imports_one_that_imports_it() {
    let imports = imports_of(&modules::of_crate("bench"));
    assert!(imports.len() > 50, "{} modules were found", imports.len());
    assert_eq!(circle(&imports), None);
    assert_eq!(circle(&of_folders(&imports)), None, "between folders");
}

/// The imports of a crate whose modules `a`, `a::x`, `b` and `b::y` hold this.
fn imports(sources: [&str; 4]) -> Imports {
    let paths = [vec!["a"], vec!["a", "x"], vec!["b"], vec!["b", "y"]];
    let modules = paths.into_iter().zip(sources).map(|(path, source)| {
        let tokens = modules::without_tests(&modules::tokens(source));
        (path.into_iter().map(str::to_owned).collect(), tokens)
    });
    let root = (Vec::new(), modules::tokens("mod a; mod b; pub use a::A;"));
    imports_of(&modules.chain([root]).collect())
}

#[test]
fn an_import_is_found_wherever_it_stands() {
    for source in [
        "use crate::b::y::Y;",
        "use crate::{a::A, b::{self, y::{Y, Z}}};",
        "pub(crate) use super::super::b::y;",
        "use super::{super::b::y::Y as Other};",
        "fn f() -> crate::b::y::Y { loop {} }",
        "fn f() { select! { () = crate::b::y::f() => {} } }",
        "mod inner { fn f() { super::super::super::b::y::f() } }",
    ] {
        let found = imports(["", source, "", ""]);
        let expected = vec!["b".to_owned(), "y".to_owned()];
        let found = &found[&vec!["a".to_owned(), "x".to_owned()]];
        assert!(found.contains(&expected), "{source}: {found:?}");
    }
    for source in [
        "use std::b::y; use self::f as g; fn f() { Y::b(y) }",
        "//! See [`crate::b::y`].\nfn f() { g(\"crate::b::y\") }",
        "#[cfg(test)] use crate::b::y;\n#[cfg(test)]\nmod tests { use crate::b::y; }",
        "pub(in crate::b) fn f() {}",
    ] {
        let found = imports(["", source, "", ""]);
        let found = &found[&vec!["a".to_owned(), "x".to_owned()]];
        assert!(found.is_empty(), "{source}: {found:?}");
    }
}

#[test]
fn a_circle_is_found_over_others_between_parent_and_child_and_between_folders() {
    assert_eq!(circle(&imports(["mod x; pub use x::X;", "", "", ""])), None);
    let up = imports(["mod x; pub use self::x::X;", "use super::A;", "", ""]);
    let expected = "crate::a -> crate::a::x -> crate::a";
    assert_eq!(circle(&up).as_deref(), Some(expected));
    let root = imports(["use crate::A;", "", "", ""]);
    assert!(circle(&root).is_some());
    let over = [
        "use crate::b::y::Y;",
        "",
        "use crate::a::A;",
        "use super::B;",
    ];
    let expected = "crate::a -> crate::b::y -> crate::b -> crate::a";
    assert_eq!(circle(&imports(over)).as_deref(), Some(expected));
    let folders = imports(["", "use crate::b::B;", "", "use crate::a::A;"]);
    assert_eq!(circle(&folders), None);
    let expected = "crate::a -> crate::b -> crate::a";
    assert_eq!(circle(&of_folders(&folders)).as_deref(), Some(expected));
}
