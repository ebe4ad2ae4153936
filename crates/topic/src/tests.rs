use proptest::prelude::*;

use super::*;

/// Says the rules of matching as directly as they are written down, without sharing code.
fn naive_match(filter: &[&str], topic: &[&str]) -> bool {
    fn rest(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | ([">"], [_, ..]) => true,
            (["*", f @ ..], [_, t @ ..]) => rest(f, t),
            ([f0, f @ ..], [t0, t @ ..]) => f0 == t0 && rest(f, t),
            _ => false,
        }
    }
    let hidden = matches!(filter.first(), Some(&"*" | &">"))
        && matches!(topic.first(), Some(&"inbox" | &"$sys"));
    !hidden && rest(filter, topic)
}

fn first() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "inbox", "$sys"])
}

fn topic() -> impl Strategy<Value = Vec<&'static str>> {
    (
        first(),
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..4),
    )
        .prop_map(|(first, rest)| std::iter::once(first).chain(rest).collect())
}

fn filter() -> impl Strategy<Value = Vec<&'static str>> {
    (
        prop::sample::select(vec!["a", "b", "inbox", "$sys", "*"]),
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "*"]), 0..4),
        any::<bool>(),
    )
        .prop_map(|(first, rest, open)| {
            let mut tokens: Vec<_> = std::iter::once(first).chain(rest).collect();
            if open {
                tokens.push(">");
            }
            tokens
        })
}

proptest! {
    #[test]
    fn matching_agrees_with_the_rules_as_written(filter in filter(), topic in topic()) {
        let parsed = TopicFilter::parse(&filter.join(".")).unwrap();
        let name = TopicName::parse(&topic.join(".")).unwrap();
        prop_assert_eq!(parsed.matches(name.as_str()), naive_match(&filter, &topic));
    }

    #[test]
    fn every_match_begins_with_the_literal_prefix(filter in filter(), topic in topic()) {
        let parsed = TopicFilter::parse(&filter.join(".")).unwrap();
        let topic = topic.join(".");
        if parsed.matches(&topic) {
            prop_assert!(topic.starts_with(parsed.literal_prefix()));
        }
    }

    #[test]
    fn every_match_lies_in_a_stretch(filter in filter(), topic in topic(), tail in "-[ab]?|") {
        let parsed = TopicFilter::parse(&filter.join(".")).unwrap();
        let topic = topic.join(".") + &tail;
        if parsed.matches(&topic) {
            let inside = |(begin, end): &(String, Option<String>)| {
                *begin <= topic && end.as_ref().is_none_or(|end| topic < *end)
            };
            prop_assert!(parsed.stretches().iter().any(inside), "{} in {:?}", topic, parsed.stretches());
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,200}") {
        if let Ok(name) = TopicName::parse(&text) {
            prop_assert!(TopicFilter::parse(&text).unwrap().matches(name.as_str()));
        }
    }
}

proptest! {
    #[test]
    fn a_name_follows_the_grammar(
        tokens in prop::collection::vec(prop_oneof![
            "[a-zA-Z0-9_-]{1,3}", "[a-z]{63,65}", Just(String::new()), "[*>$. ]", Just("$sys".to_owned()),
        ], 0..19),
    ) {
        let text = tokens.join(".");
        let tokens: Vec<_> = text.split('.').collect();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let expected = tokens.len() <= TOKENS_MAX
            && tokens.iter().enumerate().all(|(index, token)| {
                (index == 0 && *token == SYS)
                    || ((1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.chars().all(allowed))
            });
        prop_assert_eq!(TopicName::parse(&text).is_ok(), expected, "{}", text);
        if expected {
            prop_assert_eq!(TopicName::parse(&text).unwrap().is_sys(), tokens[0] == SYS);
            prop_assert!(TopicFilter::parse(&text).is_ok());
        }
    }
}

#[test]
fn malformed_names_get_an_error_that_names_the_mistake() {
    let long = "x".repeat(65);
    let many = ["t"; 17].join(".");
    let cases = [
        ("", TopicError::Empty),
        ("a..b", TopicError::EmptyToken(2)),
        (".a", TopicError::EmptyToken(1)),
        ("a.", TopicError::EmptyToken(2)),
        ("a.*", TopicError::Wildcard('*')),
        (">", TopicError::Wildcard('>')),
        ("a b", TopicError::Character(' ')),
        ("é", TopicError::Character('é')),
        ("a.$sys", TopicError::Character('$')),
        (&long, TopicError::TokenTooLong(65)),
        (&many, TopicError::TooManyTokens(17)),
    ];
    for (text, error) in cases {
        assert_eq!(TopicName::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(
        TopicFilter::parse("a.>.b"),
        Err(TopicError::RestNotLast),
        "the rest wildcard stands last"
    );
    assert_eq!(TopicFilter::parse("a*"), Err(TopicError::Character('*')));
}

proptest! {
    #[test]
    fn a_filter_is_the_inbox_of_a_subscriber_if_it_names_that_topic(
        filter in "(inbox|inbo|inboxes)(\\.[ab*>]{1,2}){0,3}",
        id in "[ab*>.]{0,3}",
    ) {
        if let Ok(filter) = TopicFilter::parse(&filter) {
            let inbox = TopicName::inbox(&id);
            let expected = inbox.is_some_and(|inbox| inbox.as_str() == filter.as_str());
            prop_assert_eq!(filter.is_inbox_of(&id), expected);
        }
    }
}

#[test]
fn only_an_id_of_one_token_has_an_inbox() {
    assert_eq!(TopicName::inbox("7").unwrap().as_str(), "inbox.7");
    assert_eq!(TopicName::inbox("a.b"), None);
    assert_eq!(TopicName::inbox(""), None);
    assert_eq!(TopicName::inbox("*"), None);
}
