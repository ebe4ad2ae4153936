//! What a crate offers is what its `public.txt` lists, and little enough to be known.
//!
//! An item is a name that users of the crate can write: a type, a trait, a function or a constant at its root or in a
//! public module. Methods are not counted, nor are modules themselves; a module that is made public by a `pub use` is one name.

use std::env;
use std::fmt;
use std::fs;

use proc_macro2::{Delimiter, TokenTree};

use crate::modules::{self, ModulePath, inside, is_group, is_sign, is_word, item_len};

/// The crates that are held to it.
const CRATES: [&str; 5] = ["bench", "checker", "client", "console", "topic"];
/// Items of one crate without its features.
const ITEMS_MAX: usize = 40;
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
    /// Only a tool of the documentation sees it.
    is_for_tools: bool,
}

/// What a crate offers.
fn items_of(name: &str) -> Vec<Item> {
    let modules = modules::of_crate(name);
    let file = |path: &ModulePath| modules[path].clone();
    let mut items = Vec::new();
    public(&file(&Vec::new()), &Vec::new(), None, &file, &mut items);
    items.sort();
    items
}

/// Adds the public items of a module, and of the public modules below it, whose tokens `file` knows.
fn public(
    tokens: &[TokenTree],
    module: &ModulePath,
    feature: Option<&String>,
    file: &impl Fn(&ModulePath) -> Vec<TokenTree>,
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
            && !attributes.is_for_tools;
        if !is_public {
            continue;
        }
        let feature = attributes.feature.as_ref().or(feature);
        let below = |name: &TokenTree| [&module[..], &[name.to_string()]].concat();
        if is_word(item.get(1), "use") {
            for name in names(&item[2..item.len() - 1]) {
                let path = [&module[..], &[name]].concat();
                let feature = feature.cloned();
                items.push(Item { path, feature });
            }
        } else if is_word(item.get(1), "mod") {
            let path = below(&item[2]);
            let inner = if is_sign(item.get(3), ';') {
                file(&path)
            } else {
                inside(&item[3])
            };
            public(&inner, &path, feature, file, items);
        } else {
            let path = below(name(&item[1..]));
            let feature = feature.cloned();
            items.push(Item { path, feature });
        }
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
        attributes.is_for_tools |= text == "[cfg(doctest)]";
        len += 1;
    }
    (attributes, len)
}

/// The names that a `use` gives to what it imports.
fn names(tree: &[TokenTree]) -> Vec<String> {
    if let Some(group) = tree
        .last()
        .filter(|it| is_group(Some(it), Delimiter::Brace))
    {
        let inner = inside(group);
        let each = inner.split(|token| is_sign(Some(token), ','));
        let each = each.filter(|one| !one.is_empty());
        let before = &tree[..tree.len() - 1];
        let named = |one: &[TokenTree]| match one {
            // `module::{self}` is named as the module.
            [word] if is_word(Some(word), "self") => vec![before[before.len() - 3].to_string()],
            one => names(one),
        };
        return each.flat_map(named).collect();
    }
    let last = tree.last().expect("an import names something");
    assert!(
        !is_sign(Some(last), '*'),
        "what is public is imported by its name"
    );
    vec![last.to_string()]
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
        let file = modules::folder(name).join("public.txt");
        let offered = listing(&items_of(name));
        if env::var_os(WRITE).is_some() {
            fs::write(&file, &offered).unwrap();
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            offered, listed,
            "what {name} offers has changed; if it is meant, `{WRITE}=1 cargo test --test tidy` lists it anew"
        );
    }
}

#[test]
fn a_crate_offers_no_more_than_can_be_known() {
    for name in CRATES {
        let items = items_of(name);
        let by_default = items.iter().filter(|item| item.feature.is_none()).count();
        assert!(
            (1..=ITEMS_MAX).contains(&by_default),
            "{name} offers {by_default} items, and {ITEMS_MAX} are the most"
        );
    }
}

#[test]
fn public_names_are_found_with_their_features_and_private_ones_are_not() {
    let lib = "
        #![cfg(unix)]
        mod hidden;
        #[cfg(feature = \"extra\")]
        pub mod extra;
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
    ";
    let file = |path: &ModulePath| {
        assert_eq!(path.join("::"), "extra");
        modules::tokens("pub enum More { A } pub trait Kind {}")
    };
    let mut items = Vec::new();
    let root = modules::tokens(lib);
    public(&root, &Vec::new(), None, &file, &mut items);
    items.sort();
    let expected = "Other\nOuter\nTold\ndeep\nextra::Kind (feature extra)\nextra::More (feature extra)\nopen::LIMIT\n\
                    open::f\nrun\n";
    assert_eq!(listing(&items), expected);
}
