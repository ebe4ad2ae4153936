//! Which topics a topic filter means, over the topics of one history.
//!
//! Written from the contract and not shared with the server, so that one mistake does not hide the other.

use crate::history::{Texts, Topic, TopicSet};

/// Topics that a leading wildcard does not mean.
const RESERVED: [&str; 2] = ["inbox", "$sys"];

/// Whether a filter means a topic.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let mut tokens = topic.split('.');
    for (index, wanted) in filter.split('.').enumerate() {
        let Some(token) = tokens.next() else {
            return false;
        };
        let wildcard = wanted == "*" || wanted == ">";
        if index == 0 && wildcard && RESERVED.contains(&token) {
            return false;
        }
        if wanted == ">" {
            return true;
        }
        if wanted != "*" && wanted != token {
            return false;
        }
    }
    tokens.next().is_none()
}

/// Whether some topic may be meant by both filters.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (mut left, mut right) = (one.split('.'), other.split('.'));
    let mut first = true;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(a), Some(b)) => {
                let wildcard = |text| text == "*" || text == ">";
                let hidden = |a, b| first && wildcard(a) && RESERVED.contains(&b);
                if hidden(a, b) || hidden(b, a) {
                    return false;
                }
                if a == ">" || b == ">" {
                    return true;
                }
                if a != b && a != "*" && b != "*" {
                    return false;
                }
            }
        }
        first = false;
    }
}

/// The meaning of one filter.
#[derive(Debug)]
pub(crate) enum Meant {
    /// A filter without wildcards: one topic, or none that the history names.
    One(Option<Topic>),
    /// A filter with wildcards.
    Set(TopicSet),
}

impl Meant {
    pub(crate) fn of(filter: &str, topics: &Texts) -> Self {
        if filter.split('.').any(|token| token == "*" || token == ">") {
            Self::Set(TopicSet::of(topics, |topic| matches(filter, topic)))
        } else {
            Self::One(topics.find(filter))
        }
    }

    pub(crate) fn contains(&self, topic: Topic) -> bool {
        match self {
            Self::One(one) => *one == Some(topic),
            Self::Set(set) => set.contains(topic),
        }
    }

    pub(crate) fn topics(&self) -> Box<dyn Iterator<Item = Topic> + '_> {
        match self {
            Self::One(one) => Box::new(one.iter().copied()),
            Self::Set(set) => Box::new(set.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_what_the_contract_says() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            (">", "inbox.7", false),
            ("*.7", "inbox.7", false),
            (">", "$sys.x", false),
            ("inbox.*", "inbox.7", true),
            ("*.b", "a.b", true),
        ];
        for (filter, topic, wanted) in cases {
            assert_eq!(matches(filter, topic), wanted, "{filter} {topic}");
            assert_eq!(overlap(filter, topic), wanted, "{filter} {topic}");
        }
        assert!(overlap("a.*", "*.b"));
        assert!(overlap("a.>", "a.b.*"));
        assert!(!overlap("a.*", "b.>"));
        assert!(!overlap(">", "$sys.>"));
    }
}
