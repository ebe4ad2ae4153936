//! All names of a small alphabet, and which of them a filter matches, by the rules as they are written down.
//!
//! Holds: filters have up to four tokens, of which the last may be `>`. Names have a token more, and `z` stands for every token that no
//! filter names. So a filter's names lie within another's in this alphabet only if they do among all names.

use longlived_topic::{TopicFilter, TopicName};

/// Tokens of filters, and of names, behind the first.
const TOKENS: [&str; 2] = ["a", "b"];
const FIRST: [&str; 4] = ["a", "b", "inbox", "$sys"];
const FRESH: &str = "z";
/// Tokens of the longest filter without `>`.
const TOKENS_MAX: usize = 3;

/// Some of the names: one bit for each.
pub(crate) type Names = Vec<u64>;

/// All filters and names.
pub(crate) struct World {
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) topics: Vec<TopicName>,
    /// Of each filter.
    names: Vec<Names>,
}

/// The rules of a list, as places of the world's filters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    pub(crate) allow: Vec<usize>,
    pub(crate) deny: Vec<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut filters = vec![vec![">"]];
        let firsts = FIRST.iter().copied().chain(["*"]);
        let longer = TOKENS.iter().copied().chain(["*"]);
        for tokens in texts(firsts, &longer, TOKENS_MAX) {
            let mut open = tokens.clone();
            open.push(">");
            filters.extend([tokens, open]);
        }
        let firsts = FIRST.iter().copied().chain([FRESH]);
        let longer = TOKENS.iter().copied().chain([FRESH]);
        let topics = texts(firsts, &longer, TOKENS_MAX + 2);
        let names = filters.iter().map(|filter| names(filter, &topics));
        Self {
            names: names.collect(),
            filters: filters
                .iter()
                .map(|tokens| TopicFilter::parse(&tokens.join(".")).unwrap())
                .collect(),
            topics: topics
                .iter()
                .map(|tokens| TopicName::parse(&tokens.join(".")).unwrap())
                .collect(),
        }
    }

    /// Whether every name of the filter is matched by one filter of `allow`, and none by a filter of `deny`.
    pub(crate) fn grants_filter(&self, lists: &Lists, filter: usize) -> bool {
        let asked = &self.names[filter];
        let within = |allow: &usize| {
            let mut pairs = asked.iter().zip(&self.names[*allow]);
            pairs.all(|(asked, allow)| asked & !allow == 0)
        };
        let meets = |deny: &usize| {
            let mut pairs = asked.iter().zip(&self.names[*deny]);
            pairs.any(|(asked, deny)| asked & deny != 0)
        };
        lists.allow.iter().any(within) && !lists.deny.iter().any(meets)
    }

    /// Whether a filter of `allow` matches the name, and none of `deny` does.
    pub(crate) fn grants_topic(&self, lists: &Lists, topic: usize) -> bool {
        let matches = |filter: &usize| self.matches(*filter, topic);
        lists.allow.iter().any(matches) && !lists.deny.iter().any(matches)
    }

    pub(crate) fn matches(&self, filter: usize, topic: usize) -> bool {
        self.names[filter][topic / 64] >> (topic % 64) & 1 == 1
    }
}

/// All texts of 1 to `max` tokens.
fn texts<'t>(
    firsts: impl Iterator<Item = &'t str>,
    longer: &(impl Iterator<Item = &'t str> + Clone),
    max: usize,
) -> Vec<Vec<&'t str>> {
    let mut last: Vec<Vec<&str>> = firsts.map(|first| vec![first]).collect();
    let mut all = last.clone();
    for _ in 1..max {
        let next = |text: &Vec<&'t str>| -> Vec<Vec<&'t str>> {
            let longer = longer.clone();
            longer.map(|token| [&text[..], &[token]].concat()).collect()
        };
        last = last.iter().flat_map(next).collect();
        all.extend_from_slice(&last);
    }
    all
}

fn names(filter: &[&str], topics: &[Vec<&str>]) -> Names {
    let mut names = vec![0; topics.len().div_ceil(64)];
    for (at, topic) in topics.iter().enumerate() {
        let is_hidden = matches!(filter[0], "*" | ">") && matches!(topic[0], "inbox" | "$sys");
        if !is_hidden && matched(filter, topic) {
            names[at / 64] |= 1 << (at % 64);
        }
    }
    names
}

fn matched(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([], []) | ([">"], [_, ..]) => true,
        (["*", filter @ ..], [_, topic @ ..]) => matched(filter, topic),
        ([token, filter @ ..], [name, topic @ ..]) => token == name && matched(filter, topic),
        _ => false,
    }
}
