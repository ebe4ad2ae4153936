use proptest::prelude::*;

use super::*;

/// Fills a template from a `sub` and a claim `team`.
fn filled(template: &str, sub: Option<&str>, team: Option<&str>) -> Option<String> {
    let filled = Template::parse(template)
        .unwrap()
        .fill(|placeholder| match placeholder {
            Placeholder::Sub => sub,
            Placeholder::Claim("team") => team,
            Placeholder::Claim(_) => None,
        });
    filled.map(|filter| filter.to_string())
}

#[test]
fn a_value_takes_the_place_of_a_whole_token() {
    for (template, expected) in [
        ("users.{sub}.>", "users.bob.>"),
        ("inbox.{sub}", "inbox.bob"),
        ("{sub}.>", "bob.>"),
        ("team.{claim:team}.{sub}.*", "team.red.bob.*"),
        ("{claim:team}.{sub}", "red.bob"),
        ("news.>", "news.>"),
    ] {
        let filter = filled(template, Some("bob"), Some("red"));
        assert_eq!(filter.as_deref(), Some(expected), "{template}");
        assert_eq!(Template::parse(template).unwrap().to_string(), template);
    }
}

#[test]
fn a_value_that_is_not_one_token_without_wildcards_fills_nothing() {
    let long = "x".repeat(65);
    for value in [
        "*", ">", "a.b", "", ".", "a.", &long, "ä", "a b", "$sys", "{sub}", "a\0", "a\n",
    ] {
        assert_eq!(
            filled("users.{sub}.>", Some(value), None),
            None,
            "{value:?}"
        );
        let both = filled("u.{sub}.{claim:team}", Some("bob"), Some(value));
        assert_eq!(both, None, "{value:?}");
    }
    assert_eq!(filled("users.{sub}", None, None), None);
    assert_eq!(
        filled("users.{claim:other}", Some("bob"), Some("red")),
        None
    );
}

#[test]
fn a_value_never_reaches_reserved_topics_from_the_first_place() {
    for value in ["inbox", "$sys"] {
        assert_eq!(filled("{sub}.>", Some(value), None), None, "{value}");
        assert_eq!(filled("{claim:team}", None, Some(value)), None, "{value}");
    }
    let inside = filled("users.{sub}", Some("inbox"), None);
    assert_eq!(inside.as_deref(), Some("users.inbox"));
}

#[test]
fn the_name_of_a_claim_may_have_dots() {
    let template = Template::parse("team.{claim:https://id.example/team}.>").unwrap();
    let filter = template.fill(|placeholder| {
        assert_eq!(placeholder, Placeholder::Claim("https://id.example/team"));
        Some("red")
    });
    assert_eq!(filter.unwrap().as_str(), "team.red.>");
}

#[test]
fn a_text_that_is_no_template_is_refused_with_the_mistake() {
    let long = format!("a.{{claim:{}}}", "x".repeat(257));
    for (text, error) in [
        ("a{sub}", TemplateError::NotWhole(1)),
        ("{sub}a", TemplateError::NotWhole(1)),
        ("a.{sub}{sub}", TemplateError::NotWhole(2)),
        ("a.{sub}.b}", TemplateError::NotWhole(3)),
        ("a.{user}", TemplateError::Unknown(2)),
        ("a.{claim:}", TemplateError::Unknown(2)),
        ("a.{claim:a{b}", TemplateError::Unknown(2)),
        ("a.{Sub}", TemplateError::Unknown(2)),
        ("a.{sub", TemplateError::Unknown(2)),
        ("{}", TemplateError::Unknown(1)),
        (&long, TemplateError::ClaimNameTooLong(257)),
        ("", TemplateError::Filter(TopicError::Empty)),
        ("{sub}.", TemplateError::Filter(TopicError::EmptyToken(2))),
        ("a.>.{sub}", TemplateError::Filter(TopicError::RestNotLast)),
        (
            "a b.{sub}",
            TemplateError::Filter(TopicError::Character(' ')),
        ),
    ] {
        assert_eq!(Template::parse(text), Err(error), "{text}");
    }
    let many = ["{sub}"; 17].join(".");
    let error = TemplateError::Filter(TopicError::TooManyTokens(17));
    assert_eq!(Template::parse(&many), Err(error));
}

proptest! {
    #[test]
    fn what_a_value_fills_has_as_many_tokens_and_no_wildcard_of_the_value(value in "[a-z*>.${}_ é-]{0,6}") {
        let template = Template::parse("a.{sub}.b").unwrap();
        if let Some(filter) = template.fill(|_| Some(&value)) {
            prop_assert_eq!(filter.tokens().collect::<Vec<_>>(), ["a", &value, "b"]);
            prop_assert!(!filter.has_wildcard());
        }
    }

    #[test]
    fn any_text_is_a_template_or_refused_without_a_panic(text in "[a.{}>*:claimsub]{0,40}") {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
            template.fill(|_| Some("x")).unwrap();
        }
    }
}
