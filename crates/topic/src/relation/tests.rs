//! The relation of two filters is compared with an oracle: all names of an alphabet, each matched by both filters.
//!
//! Literal tokens of the filters are letters of the alphabet, and `z` stands for every token that no filter names.

use proptest::prelude::*;

use super::*;
use crate::{INBOX, SYS, TopicName};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

/// `texts`, and each of them with 1 to `more` of the tokens behind it.
fn longer(texts: &[String], tokens: &[&str], more: usize) -> Vec<String> {
    let mut all = texts.to_vec();
    let mut last = texts.to_vec();
    for _ in 0..more {
        let next = |text: &String| -> Vec<String> {
            tokens
                .iter()
                .map(|token| format!("{text}.{token}"))
                .collect()
        };
        last = last.iter().flat_map(next).collect();
        all.extend_from_slice(&last);
    }
    all
}

/// Parses the filters, and each of them with `>` behind it where there is a token left for it.
fn with_rest(texts: &[String]) -> Vec<TopicFilter> {
    let open = |text: &String| TopicFilter::parse(&format!("{text}.>")).ok();
    let closed = texts.iter().map(|text| filter(text));
    closed.chain(texts.iter().filter_map(open)).collect()
}

/// The relation of each two of the filters, from the names.
fn check_all(filters: &[TopicFilter], all_names: &[String]) {
    let names = all_names;
    let matched = |filter: &TopicFilter| -> Vec<bool> {
        names.iter().map(|name| filter.matches(name)).collect()
    };
    let matched: Vec<Vec<bool>> = filters.iter().map(matched).collect();
    for (inner, names_of_inner) in filters.iter().zip(&matched) {
        for (outer, names_of_outer) in filters.iter().zip(&matched) {
            let mut names = names_of_inner.iter().zip(names_of_outer);
            let within = names.clone().all(|(inner, outer)| !inner || *outer);
            let disjoint = !names.any(|(inner, outer)| *inner && *outer);
            assert_eq!(inner.is_within(outer), within, "{inner} within {outer}");
            assert_eq!(inner.is_disjoint(outer), disjoint, "{inner} and {outer}");
            let common = inner.intersection(outer);
            assert_eq!(common.is_none(), disjoint, "{inner} and {outer}");
            if let Some(common) = common {
                let again = TopicFilter::parse(common.as_str());
                assert_eq!(again.as_ref(), Ok(&common), "{inner} and {outer}");
                let matched: Vec<bool> =
                    all_names.iter().map(|name| common.matches(name)).collect();
                let both = names_of_inner.iter().zip(names_of_outer);
                let both: Vec<bool> = both.map(|(inner, outer)| *inner && *outer).collect();
                assert!(matched == both, "{common} of {inner} and {outer}");
            }
        }
    }
}

#[test]
fn every_two_short_filters_are_related_as_their_names_are() {
    let first = ["a", "b", INBOX, SYS, "*"].map(String::from);
    let mut filters = with_rest(&longer(&first, &["a", "b", "*"], 2));
    filters.push(filter(">"));
    let first = ["a", "b", "z", INBOX, SYS].map(String::from);
    // A token more than the longest filter: longer names are matched by the same `>`.
    check_all(&filters, &longer(&first, &["a", "b", "z"], 4));
}

#[test]
fn every_two_filters_at_the_limit_of_tokens_are_related_as_their_names_are() {
    let common = ".p".repeat(TOKENS_MAX - 4);
    let begin = |first: &str| format!("{first}{common}");
    let filters = with_rest(&longer(&["a", INBOX, "*"].map(begin), &["a", "*"], 3));
    let names = longer(&["a", "z", INBOX].map(begin), &["a", "z"], 3);
    assert!(names.iter().all(|name| TopicName::parse(name).is_ok()));
    let tokens_max = names.iter().map(|name| name.split('.').count()).max();
    assert_eq!(tokens_max, Some(TOKENS_MAX));
    check_all(&filters, &names);
}

/// The tokens for `*` and `>` in the names of long filters.
const ALPHABET: [&str; 3] = ["a", "b", "z"];

/// All names of an alphabet that a filter matches, by the rules as they are written down.
fn names_of(filter: &[&str]) -> Vec<String> {
    let mut names = vec![String::new()];
    for (index, token) in filter.iter().enumerate() {
        let tokens = match *token {
            "*" | ">" => &ALPHABET,
            _ => std::slice::from_ref(token),
        };
        let dot = if index == 0 { "" } else { "." };
        let next = |name: &String| -> Vec<String> {
            let tokens = tokens.iter();
            tokens.map(|token| format!("{name}{dot}{token}")).collect()
        };
        names = names.iter().flat_map(next).collect();
    }
    if filter.last() == Some(&">") {
        names = longer(&names, &ALPHABET, TOKENS_MAX - filter.len());
    }
    names
}

/// The shortest of long filters: the tokens for `>` can still be enumerated.
const LONG: usize = TOKENS_MAX - 4;

/// Long filters, most of their tokens literal.
fn long_filter() -> impl Strategy<Value = Vec<&'static str>> {
    let first = prop::sample::select(vec!["a", "b", INBOX, SYS, "*"]);
    let other = prop::sample::select(vec!["a", "a", "a", "a", "b", "*"]);
    let rest = prop::collection::vec(other, LONG - 1..TOKENS_MAX);
    (first, rest, any::<bool>()).prop_map(|(first, rest, open)| {
        let mut tokens: Vec<_> = std::iter::once(first).chain(rest).collect();
        if open {
            *tokens.last_mut().unwrap() = ">";
        }
        tokens
    })
}

/// A long filter, and one that differs from it in a few places: two of their own would hardly ever meet.
fn pair() -> impl Strategy<Value = (Vec<&'static str>, Vec<&'static str>)> {
    let stars = prop::collection::vec(0..LONG, 0..3);
    let end = prop::option::of(LONG..=TOKENS_MAX);
    (long_filter(), stars, end).prop_map(|(one, stars, end)| {
        let mut other = one.clone();
        for place in stars {
            // The last one may be `>`, which stands for as much.
            other[place] = if other[place] == ">" { ">" } else { "*" };
        }
        if let Some(end) = end.filter(|&end| end <= other.len()) {
            other.truncate(end);
            other[end - 1] = ">";
        }
        (one, other)
    })
}

proptest! {
    // Each asks hundreds of thousands of names.
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn long_filters_are_related_as_their_names_are((one, other) in pair(), third in long_filter()) {
        for (inner, outer) in [(&one, &other), (&other, &one), (&one, &third), (&third, &other)] {
            let names = names_of(inner);
            let (inner, outer) = (filter(&inner.join(".")), filter(&outer.join(".")));
            prop_assert!(names.iter().all(|name| inner.matches(name)));
            let within = names.iter().all(|name| outer.matches(name));
            let meet = names.iter().any(|name| outer.matches(name));
            prop_assert_eq!(inner.is_within(&outer), within, "{} within {}", inner, outer);
            prop_assert_eq!(inner.is_disjoint(&outer), !meet, "{} and {}", inner, outer);
        }
    }
}

proptest! {
    #[test]
    fn a_name_is_within_the_filters_that_match_it((one, other) in pair()) {
        let (name, outer) = (filter(&one.join(".")), filter(&other.join(".")));
        if let Some(topic) = name.literal() {
            prop_assert_eq!(name.is_within(&outer), outer.matches(topic.as_str()));
            prop_assert_eq!(name.is_disjoint(&outer), !outer.matches(topic.as_str()));
        }
    }
}

/// A filter's text is read as a name, which is the rule that comes to mind first.
fn read_as_a_name(inner: &TopicFilter, outer: &TopicFilter) -> bool {
    outer.matches(inner.as_str())
}

#[test]
fn a_filter_is_no_name_where_rest_meets_one_token() {
    let (rest, one) = (filter("a.>"), filter("a.*"));
    assert!(read_as_a_name(&rest, &one));
    assert!(!rest.is_within(&one) && one.is_within(&rest));
    assert!(!rest.is_disjoint(&one));
    // Where a name has no further token, they are the same.
    let before = "a.".repeat(TOKENS_MAX - 1);
    let (rest, one) = (filter(&format!("{before}>")), filter(&format!("{before}*")));
    assert!(rest.is_within(&one) && one.is_within(&rest));
}

#[test]
fn a_leading_wildcard_has_no_reserved_topic_in_common_with_its_filter() {
    for hidden in ["inbox", "inbox.7", "inbox.*", "inbox.>", "$sys", "$sys.>"] {
        for wildcard in [">", "*", "*.>", "*.7", "*.*"] {
            let (hidden, wildcard) = (filter(hidden), filter(wildcard));
            assert!(hidden.is_disjoint(&wildcard) && wildcard.is_disjoint(&hidden));
            assert!(!hidden.is_within(&wildcard) && !wildcard.is_within(&hidden));
        }
    }
}
