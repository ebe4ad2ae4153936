//! What a crate offers is what its `public.txt` lists, and little enough to be known.
//!
//! An item is a name that users of the crate can write: a type, a trait, a function or a constant at its root or in a
//! public module. Methods are not counted, nor are modules themselves; a module of another crate is one name, and so is
//! one whose text the build generates.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;
use std::fs;

use proc_macro2::{Delimiter, TokenTree};

use crate::modules::{self, ModulePath, inside, is_group, is_sign, is_word, item_len};

/// The crates that are held to it.
const CRATES: [&str; 12] = [
    "api",
    "authorize",
    "bench",
    "broker",
    "checker",
    "client",
    "console",
    "fuzzing",
    "identity",
    "server",
    "testkit",
    "topic",
];
/// Items of one crate without its features.
const ITEMS_MAX: usize = 40;
/// Those that need more, with the number: ADR 19.
const MORE: [(&str, usize); 2] = [("broker", 53), ("testkit", 45)];
/// What a crate has for tests alone; nobody else builds with it, so it is not listed.
const FOR_TESTS: &str = "testkit";
/// Set, the listings are written and not compared.
const WRITE: &str = "LONGLIVED_WRITE_PUBLIC";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    path: ModulePath,
    /// Without this feature of the crate it is not there.
    feature: Option<String>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path.join("::"))?;
        match &self.feature {
            Some(feature) => write!(f, " (feature {feature})"),
            None => Ok(()),
        }
    }
}

/// What stands before an item.
#[derive(Debug, Default)]
struct Attributes {
    feature: Option<String>,
    /// The documentation hides it, or only a tool of the documentation sees it.
    is_hidden: bool,
}

/// A module by its place in the sources, and by the one that users know it by.
#[derive(Clone, Debug, Default)]
struct Place {
    source: ModulePath,
    public: ModulePath,
}

impl Place {
    fn below(&self, name: &str) -> Self {
        let below = |path: &ModulePath| [&path[..], &[name.to_owned()]].concat();
        Self {
            source: below(&self.source),
            public: below(&self.public),
        }
    }
}

/// What a crate offers.
fn items_of(name: &str) -> Vec<Item> {
    let modules = modules::of_crate(name);
    let mut items = Vec::new();
    let root = &modules[&ModulePath::new()];
    public(root, &Place::default(), None, &modules, &mut items);
    items.retain(|item| item.feature.as_deref() != Some(FOR_TESTS));
    items.sort();
    items
}

/// Adds the public items of the module at `place`, and of the public modules below it.
fn public(
    tokens: &[TokenTree],
    place: &Place,
    feature: Option<&String>,
    modules: &BTreeMap<ModulePath, Vec<TokenTree>>,
    items: &mut Vec<Item>,
) {
    let mut rest = tokens;
    while !rest.is_empty() {
        let (attributes, len) = attributes(rest);
        rest = &rest[len..];
        let item = &rest[..item_len(rest)];
        rest = &rest[item.len()..];
        let is_public = is_word(item.first(), "pub")
            && !is_group(item.get(1), Delimiter::Parenthesis)
            && !attributes.is_hidden;
        if !is_public {
            continue;
        }
        let feature = attributes.feature.as_ref().or(feature);
        if is_word(item.get(1), "use") {
            for (path, name) in imported(&item[2..item.len() - 1], &[]) {
                let mut place = place.below(&name);
                place.source = from_root(&place.source[..place.source.len() - 1], &path);
                match modules.get(&place.source) {
                    Some(inner) => public(inner, &place, feature, modules, items),
                    None => items.push(Item {
                        path: place.public,
                        feature: feature.cloned(),
                    }),
                }
            }
        } else if is_word(item.get(1), "mod") {
            let place = place.below(&item[2].to_string());
            let inline = inside(&item[3]);
            let inner = modules.get(&place.source).unwrap_or(&inline);
            if is_generated(inner) {
                items.push(Item {
                    path: place.public,
                    feature: feature.cloned(),
                });
            } else {
                public(inner, &place, feature, modules, items);
            }
        } else {
            let name = name(&item[1..]).to_string();
            items.push(Item {
                path: place.below(&name).public,
                feature: feature.cloned(),
            });
        }
    }
}

/// Whether the text of a module is a file that the build generates.
fn is_generated(module: &[TokenTree]) -> bool {
    is_word(module.first(), "include") && is_sign(module.get(1), '!')
}

/// Where a path of a `use` in a module leads, if it stays in the crate.
fn from_root(module: &[String], path: &[String]) -> ModulePath {
    match path.first().map(String::as_str) {
        Some("crate") => path[1..].to_vec(),
        Some("self") => [module, &path[1..]].concat(),
        _ => [module, path].concat(),
    }
}

/// What is said of the item that begins here, and how many tokens say it.
fn attributes(tokens: &[TokenTree]) -> (Attributes, usize) {
    let mut attributes = Attributes::default();
    let mut len = 0;
    while is_sign(tokens.get(len), '#') {
        len += 1;
        if is_sign(tokens.get(len), '!') {
            len += 1;
        }
        let text = tokens[len].to_string().replace(' ', "");
        if let Some(feature) = text.strip_prefix("[cfg(feature=\"") {
            attributes.feature = feature.split('"').next().map(str::to_owned);
        }
        attributes.is_hidden |= ["[cfg(doctest)]", "[doc(hidden)]"].contains(&&*text);
        len += 1;
    }
    (attributes, len)
}

/// What a `use` imports, after the path `before`: each with its whole path, and the name that it gets.
fn imported(tree: &[TokenTree], before: &[String]) -> Vec<(ModulePath, String)> {
    let mut path = before.to_vec();
    for (at, token) in tree.iter().enumerate() {
        match token {
            TokenTree::Group(_) => {
                let inner = inside(token);
                let each = inner.split(|token| is_sign(Some(token), ','));
                let each = each.filter(|one| !one.is_empty());
                return each.flat_map(|one| imported(one, &path)).collect();
            }
            TokenTree::Ident(word) if word == "as" => {
                return vec![(path, tree[at + 1].to_string())];
            }
            // `module::{self}` is the module.
            TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
            TokenTree::Ident(word) => path.push(word.to_string()),
            sign => assert!(
                !is_sign(Some(sign), '*'),
                "what is public is imported by its name"
            ),
        }
    }
    let name = path.last().expect("an import names something").clone();
    vec![(path, name)]
}

/// The name of an item, from the word after `pub` on.
fn name(item: &[TokenTree]) -> &TokenTree {
    let is_kind = |token: Option<&TokenTree>| {
        let kinds = ["fn", "struct", "enum", "trait", "union", "type", "static"];
        kinds.iter().any(|kind| is_word(token, kind))
    };
    let at = item.iter().position(|token| is_kind(Some(token)));
    let at = at.or_else(|| item.iter().position(|it| is_word(Some(it), "const")));
    &item[at.expect("a kind of item") + 1]
}

fn listing(items: &[Item]) -> String {
    let lines = items.iter().map(|item| format!("{item}\n"));
    lines.collect()
}

#[test]
fn a_crate_offers_what_its_listing_says() {
    for name in CRATES {
        let file = match name {
            "api" => modules::sources(name).join("public.txt"),
            _ => modules::folder(name).join("public.txt"),
        };
        let offered = listing(&items_of(name));
        if env::var_os(WRITE).is_some() {
            fs::write(&file, &offered).unwrap();
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (offered, listed) = (lines(&offered), lines(&listed));
        let new: Vec<_> = offered.difference(&listed).collect();
        let gone: Vec<_> = listed.difference(&offered).collect();
        assert!(
            new.is_empty() && gone.is_empty(),
            "{name} offers {new:?} anew and {gone:?} no more; if it is meant, `{WRITE}=1 cargo test --test tidy` lists it"
        );
    }
}

#[test]
fn a_crate_offers_no_more_than_can_be_known() {
    for name in CRATES {
        let items = items_of(name);
        let by_default = items.iter().filter(|item| item.feature.is_none()).count();
        match MORE.iter().find(|(more, _)| *more == name) {
            Some(&(_, known)) => assert_eq!(by_default, known, "{name}: this number only falls"),
            None => assert!(
                (1..=ITEMS_MAX).contains(&by_default),
                "{name} offers {by_default} items, and {ITEMS_MAX} are the most"
            ),
        }
    }
}

#[test]
fn public_names_are_found_with_their_features_and_private_ones_are_not() {
    let lib = "
        #![cfg(unix)]
        mod hidden;
        #[cfg(feature = \"extra\")]
        pub mod extra;
        pub mod generated { include!(concat!(env!(\"OUT_DIR\"), \"/generated.rs\")); }
        pub mod open { pub const fn f() {} pub const LIMIT: usize = 4; fn g() {} }
        pub(crate) use self::hidden::Inner;
        pub use self::hidden::{Outer, deep::{self, Deep as Other}};
        /// Told.
        #[derive(Debug)]
        pub struct Told(u8);
        pub async fn run() -> Told { use std::fmt; loop {} }
        impl Told { pub fn method(&self) {} }
        #[cfg(doctest)]
        pub struct Readme;
        #[doc(hidden)]
        pub mod within { pub struct Part; }
    ";
    let modules = modules::made_of(&[
        (vec![], lib),
        (vec!["extra"], "pub enum More { A } pub trait Kind {}"),
        (vec!["hidden"], "pub struct Outer; pub mod deep;"),
        (vec!["hidden", "deep"], "pub struct Deep; struct Inner;"),
    ]);
    let mut items = Vec::new();
    let root = &modules[&ModulePath::new()];
    public(root, &Place::default(), None, &modules, &mut items);
    items.sort();
    let expected = "Other\nOuter\nTold\ndeep::Deep\nextra::Kind (feature extra)\nextra::More (feature extra)\ngenerated\nopen::LIMIT\n\
                    open::f\nrun\n";
    assert_eq!(listing(&items), expected);
}
