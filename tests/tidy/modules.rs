//! The modules of a crate, read from their files as the compiler finds them: from `lib.rs` by `mod name;`.
//!
//! Does not: read what only tests are compiled with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::source;

/// Where a module stands below the root of its crate; the root is empty.
pub(crate) type ModulePath = Vec<String>;

/// The files of a crate by the module that each is, without what is for tests.
pub(crate) fn of_crate(name: &str) -> BTreeMap<ModulePath, Vec<TokenTree>> {
    let src = sources(name);
    let mut modules = BTreeMap::new();
    read(&src.join("lib.rs"), &src, Vec::new(), &mut modules);
    modules
}

/// The folder of a crate's sources; the contracts stand beside those of the generated code.
pub(crate) fn sources(name: &str) -> PathBuf {
    match name {
        "api" => source::root().join("proto"),
        _ => folder(name).join("src"),
    }
}

/// The folder of a crate of this workspace.
pub(crate) fn folder(name: &str) -> PathBuf {
    source::root().join("crates").join(name)
}

fn read(
    file: &Path,
    children: &Path,
    path: ModulePath,
    modules: &mut BTreeMap<ModulePath, Vec<TokenTree>>,
) {
    let text = fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", file.display()));
    let tokens = without_tests(&tokens(&text));
    for child in declared(&tokens) {
        let file = children.join(format!("{child}.rs"));
        let below = children.join(&child);
        let path = [&path[..], &[child]].concat();
        read(&file, &below, path, modules);
    }
    modules.insert(path, tokens);
}

/// A source as tokens.
pub(crate) fn tokens(source: &str) -> Vec<TokenTree> {
    let tokens: TokenStream = source.parse().expect("a source of Rust");
    tokens.into_iter().collect()
}

/// The tokens within braces, brackets or parentheses.
pub(crate) fn inside(token: &TokenTree) -> Vec<TokenTree> {
    match token {
        TokenTree::Group(group) => group.stream().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether a token is this word.
pub(crate) fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(it)) if it == word)
}

/// Whether a token is this sign.
pub(crate) fn is_sign(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(it)) if it.as_char() == sign)
}

/// Whether a token is a group within these.
pub(crate) fn is_group(token: Option<&TokenTree>, within: Delimiter) -> bool {
    matches!(token, Some(TokenTree::Group(it)) if it.delimiter() == within)
}

/// The names of the modules that are files of their own.
fn declared(tokens: &[TokenTree]) -> Vec<String> {
    let mut names = Vec::new();
    for at in 0..tokens.len() {
        if is_word(tokens.get(at), "mod") && is_sign(tokens.get(at + 2), ';') {
            names.push(tokens[at + 1].to_string());
        }
    }
    names
}

/// Modules that stand nowhere, of their texts.
pub(crate) fn made_of(sources: &[(Vec<&str>, &str)]) -> BTreeMap<ModulePath, Vec<TokenTree>> {
    let module = |(path, text): &(Vec<&str>, &str)| {
        let path = path.iter().map(ToString::to_string).collect();
        (path, without_tests(&tokens(text)))
    };
    sources.iter().map(module).collect()
}

/// The items of a file without those that `#[cfg(test)]` stands before.
pub(crate) fn without_tests(tokens: &[TokenTree]) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_for_tests(&tokens[at..]) {
            at += item_len(&tokens[at..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn is_for_tests(tokens: &[TokenTree]) -> bool {
    let [hash, attribute, ..] = tokens else {
        return false;
    };
    let text = attribute.to_string().replace(' ', "");
    is_sign(Some(hash), '#') && (text == "[cfg(test)]" || text.starts_with("[cfg(all(test,"))
}

/// How many tokens an item has, its attributes included: up to its `;`, or its braces.
pub(crate) fn item_len(tokens: &[TokenTree]) -> usize {
    let mut at = 0;
    while is_sign(tokens.get(at), '#') {
        at += 2;
    }
    if is_word(tokens.get(at), "pub") {
        at += 1 + usize::from(is_group(tokens.get(at + 1), Delimiter::Parenthesis));
    }
    let is_import = is_word(tokens.get(at), "use");
    let end = tokens.iter().position(|token| {
        is_sign(Some(token), ';') || (!is_import && is_group(Some(token), Delimiter::Brace))
    });
    end.map_or(tokens.len(), |end| end + 1)
}
