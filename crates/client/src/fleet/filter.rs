//! The clients that a topic concerns. The server decides which events are delivered; this module tells only which
//! clients must receive a message.

/// True when `filter` selects `topic`: `*` is one token, `>` is one or more and last, and a leading wildcard
/// selects neither inboxes nor the server's own topics.
pub(super) fn selects(filter: &str, topic: &str) -> bool {
    let leading_wildcard = filter.starts_with(['*', '>']);
    if leading_wildcard && matches!(topic.split('.').next(), Some("inbox" | "$sys")) {
        return false;
    }
    let mut tokens = topic.split('.');
    for part in filter.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::selects;

    #[test]
    fn filters_select_as_the_contract_says() {
        for (filter, topic, selected) in [
            ("orders.eu", "orders.eu", true),
            ("orders.eu", "orders.us", false),
            ("orders", "orders.eu", false),
            ("orders.eu.new", "orders.eu", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.eu.new", false),
            ("orders.*.new", "orders.eu.new", true),
            ("orders.>", "orders.eu.new", true),
            ("orders.>", "orders", false),
            (">", "orders.eu", true),
            (">", "inbox.1", false),
            ("*.1", "inbox.1", false),
            ("inbox.1", "inbox.1", true),
            (">", "$sys.load", false),
        ] {
            assert_eq!(selects(filter, topic), selected, "{filter} {topic}");
        }
    }
}
