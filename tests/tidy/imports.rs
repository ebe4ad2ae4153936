//! No module imports one that imports it, be it over others: a newcomer can read a crate from the ground up.
//!
//! Every path counts that names a module of the crate, in a `use` or in the middle of a line.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenTree};

use crate::modules::{self, ModulePath, inside, is_group, is_sign, is_word, without_tests};

/// What one module imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Modules of its own crate.
    pub(crate) modules: BTreeSet<ModulePath>,
    /// First words of other paths: crates, and names that paths may begin with.
    pub(crate) crates: BTreeSet<String>,
}

/// What each module imports.
pub(crate) type Imports = BTreeMap<ModulePath, Imported>;

/// Reads the paths of one module.
struct Paths<'a> {
    all: &'a BTreeSet<ModulePath>,
    found: Imported,
}

impl Paths<'_> {
    /// Of what stands in the module at `here`, which may be one within a file.
    fn read(&mut self, tokens: &[TokenTree], here: &ModulePath) {
        let mut at = 0;
        while at < tokens.len() {
            if is_word(tokens.get(at), "mod") && is_group(tokens.get(at + 2), Delimiter::Brace) {
                let inner = [&here[..], &[tokens[at + 1].to_string()]].concat();
                self.read(&without_tests(&inside(&tokens[at + 2])), &inner);
                at += 3;
            } else if is_word(tokens.get(at), "pub")
                && is_group(tokens.get(at + 1), Delimiter::Parenthesis)
            {
                // Who may see it is no import.
                at += 2;
            } else if is_word(tokens.get(at), "use") && !is_sign(tokens.get(at + 1), '<') {
                let end = tokens[at..].iter().position(|it| is_sign(Some(it), ';'));
                let end = at + end.expect("an import ends");
                self.import(&tokens[at + 1..end], here);
                at = end;
            } else if is_path(&tokens[at..]) {
                at += self.path(&tokens[at..], here);
            } else {
                self.read(&without_tests(&inside(&tokens[at])), here);
                at += 1;
            }
        }
    }

    /// What follows `use`.
    fn import(&mut self, tokens: &[TokenTree], here: &ModulePath) {
        if let [group @ TokenTree::Group(_)] = tokens {
            let inner = inside(group);
            let each = inner.split(|token| is_sign(Some(token), ','));
            each.filter(|one| !one.is_empty())
                .for_each(|one| self.import(one, here));
            return;
        }
        match self.begins(tokens, here) {
            (Some(from), len) => self.tree(&tokens[len..], from),
            (None, _) => self.foreign(tokens),
        }
    }

    /// A path that begins with no module of ours.
    fn foreign(&mut self, tokens: &[TokenTree]) {
        let first = tokens.first().map(ToString::to_string);
        self.found.crates.extend(first);
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
        match from {
            Some(_) => self.found(path),
            None => self.foreign(tokens),
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
        self.found.modules.insert(path);
    }
}

/// Whether a word is followed by `::`.
fn is_path(tokens: &[TokenTree]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Ident(_)))
        && is_sign(tokens.get(1), ':')
        && is_sign(tokens.get(2), ':')
}

/// What the modules of a crate import.
pub(crate) fn of(modules: &BTreeMap<ModulePath, Vec<TokenTree>>) -> Imports {
    let all: BTreeSet<_> = modules.keys().cloned().collect();
    let imports = modules.iter().map(|(module, tokens)| {
        let mut paths = Paths {
            all: &all,
            found: Imported::default(),
        };
        paths.read(tokens, module);
        paths.found.modules.remove(module);
        (module.clone(), paths.found)
    });
    imports.collect()
}

/// Which module leads to which.
type Graph = BTreeMap<ModulePath, BTreeSet<ModulePath>>;

fn between_files(imports: &Imports) -> Graph {
    let modules = imports.iter();
    modules
        .map(|(module, imported)| (module.clone(), imported.modules.clone()))
        .collect()
}

/// The same between folders: each module counts as the one that the crate's root declares.
fn between_folders(imports: &Imports) -> Graph {
    let folder = |module: &ModulePath| module.iter().take(1).cloned().collect::<ModulePath>();
    let mut folders = Graph::new();
    for (module, imported) in imports {
        let from = folder(module);
        let others = imported.modules.iter().map(folder);
        let others = others.filter(|to| *to != from).collect::<Vec<_>>();
        folders.entry(from).or_default().extend(others);
    }
    folders
}

/// A circle as the names of its modules, if there is one.
fn circle(graph: &Graph) -> Option<String> {
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|module| visit(module, graph, &mut Vec::new(), &mut done))
}

/// A circle that is met from a module on, after the `way` to it.
fn visit(
    module: &ModulePath,
    graph: &Graph,
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
    let found = graph
        .get(module)
        .into_iter()
        .flatten()
        .find_map(|next| visit(next, graph, way, done));
    way.pop();
    done.insert(module.clone());
    found
}

#[test]
fn no_module_of_bench_imports_one_that_imports_it() {
    let imports = of(&modules::of_crate("bench"));
    assert!(imports.len() > 50, "{} modules were found", imports.len());
    assert_eq!(circle(&between_files(&imports)), None);
    assert_eq!(circle(&between_folders(&imports)), None);
}

/// The imports of a crate whose modules `a`, `a::x`, `b` and `b::y` hold this.
fn imports(sources: [&str; 4]) -> Imports {
    let [a, x, b, y] = sources;
    of(&modules::made_of(&[
        (vec![], "mod a; mod b; pub use a::A;"),
        (vec!["a"], a),
        (vec!["a", "x"], x),
        (vec!["b"], b),
        (vec!["b", "y"], y),
    ]))
}

/// What `a::x` imports.
fn imported(source: &str) -> Imported {
    let imports = imports(["", source, "", ""]);
    imports[&vec!["a".to_owned(), "x".to_owned()]].clone()
}

#[test]
fn an_import_is_found_wherever_it_stands() {
    for source in [
        "use crate::b::y::Y;",
        "use crate::{a::A, b::{self, y::{Y, Z}}};",
        "use {std::fmt, crate::b::y::Y};",
        "pub(crate) use super::super::b::y;",
        "use super::{super::b::y::Y as Other};",
        "fn f() -> crate::b::y::Y { loop {} }",
        "fn f() { select! { () = crate::b::y::f() => {} } }",
        "mod inner { fn f() { super::super::super::b::y::f() } }",
    ] {
        let expected = vec!["b".to_owned(), "y".to_owned()];
        assert!(imported(source).modules.contains(&expected), "{source}");
    }
    for source in [
        "use std::b::y; use self::f as g; fn f() { Y::b(y) }",
        "//! See [`crate::b::y`].\nfn f() { g(\"crate::b::y\") }",
        "#[cfg(test)] use crate::b::{y, Y};\n#[cfg(test)]\nmod tests { use crate::b::y; }",
        "mod inner { #[cfg(all(test, unix))] mod tests { use crate::b::y; } }",
        "pub(in crate::b) fn f() {}",
        "fn f<'a>(it: &'a u8) -> impl Sized + use<'a> { it }",
    ] {
        assert_eq!(imported(source).modules, BTreeSet::new(), "{source}");
    }
    let crates = imported("use one::One; use {two::b}; fn f() { three::f() }").crates;
    assert_eq!(
        crates.into_iter().collect::<Vec<_>>(),
        ["one", "three", "two"]
    );
}

#[test]
fn a_circle_is_found_over_others_between_parent_and_child_and_between_folders() {
    let circle_of = |sources| circle(&between_files(&imports(sources)));
    assert_eq!(circle_of(["mod x; pub use x::X;", "", "", ""]), None);
    let up = circle_of(["mod x; pub use self::x::X;", "use super::A;", "", ""]);
    assert_eq!(up.as_deref(), Some("crate::a -> crate::a::x -> crate::a"));
    assert!(circle_of(["use crate::A;", "", "", ""]).is_some());
    let over = circle_of([
        "use crate::b::y::Y;",
        "",
        "use crate::a::A;",
        "use super::B;",
    ]);
    let expected = "crate::a -> crate::b::y -> crate::b -> crate::a";
    assert_eq!(over.as_deref(), Some(expected));
    let folders = ["", "use crate::b::B;", "", "use crate::a::A;"];
    assert_eq!(circle_of(folders), None);
    let expected = "crate::a -> crate::b -> crate::a";
    let between = circle(&between_folders(&imports(folders)));
    assert_eq!(between.as_deref(), Some(expected));
}
