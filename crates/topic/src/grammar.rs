//! The grammar of names and filters, and the error of a text that is neither.

/// The most tokens in a name or filter.
pub const TOKENS_MAX: usize = 16;
/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64;
/// First token of topics that only the server publishes to.
pub const SYS: &str = "$sys";
/// First token of the topics that belong to one subscriber each.
pub const INBOX: &str = "inbox";

/// Why a text is no topic name or filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing at all.
    #[error("is empty; it needs 1 to {TOKENS_MAX} tokens joined by dots")]
    Empty,
    /// More tokens than allowed.
    #[error("has {0} tokens; at most {TOKENS_MAX} are allowed")]
    TooManyTokens(usize),
    /// Two dots in a row, or a dot at an end.
    #[error("has an empty token (number {0}); each token has 1 to {TOKEN_BYTES_MAX} characters")]
    EmptyToken(usize),
    /// One token is too long.
    #[error("has a token of {0} bytes; at most {TOKEN_BYTES_MAX} are allowed")]
    TokenTooLong(usize),
    /// A character outside the allowed set.
    #[error("holds the character {0:?}; tokens are made of A-Z a-z 0-9 _ -")]
    Character(char),
    /// A wildcard in a name that must not have one.
    #[error("holds the wildcard `{0}`; a topic name has none")]
    Wildcard(char),
    /// `>` before the end.
    #[error("has `>` before its last token; `>` stands last only")]
    RestNotLast,
}

/// Whether topics that begin with this token are hidden from leading wildcards.
pub fn is_reserved(first_token: &str) -> bool {
    first_token == INBOX || first_token == SYS
}

/// Whether a text can be one token at any place of a name.
pub fn is_token(text: &str) -> bool {
    check_token(text, 1).is_ok()
}

/// Whether a token of a filter stands for other tokens.
pub(crate) fn is_wildcard(token: &str) -> bool {
    matches!(token, "*" | ">")
}

/// The text before the first dot.
pub(crate) fn first_token(text: &str) -> &str {
    text.split('.').next().unwrap_or(text)
}

/// Whether it is a name without anything special: most are, and publishing checks many.
fn is_plain(text: &str) -> bool {
    let mut tokens = 1;
    let mut token_bytes = 0;
    for byte in text.bytes() {
        match byte {
            b'.' if token_bytes == 0 => return false,
            b'.' => {
                tokens += 1;
                token_bytes = 0;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => token_bytes += 1,
            _ => return false,
        }
        if token_bytes > TOKEN_BYTES_MAX {
            return false;
        }
    }
    token_bytes > 0 && tokens <= TOKENS_MAX
}

/// Checks the grammar of a name, or with `wildcards` of a filter.
pub(crate) fn check(text: &str, wildcards: bool) -> Result<(), TopicError> {
    if is_plain(text) {
        return Ok(());
    }
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    let tokens = text.split('.').count();
    if tokens > TOKENS_MAX {
        return Err(TopicError::TooManyTokens(tokens));
    }
    for (index, token) in text.split('.').enumerate() {
        match token {
            "*" if wildcards => {}
            ">" if wildcards && index + 1 == tokens => {}
            ">" if wildcards => return Err(TopicError::RestNotLast),
            SYS if index == 0 => {}
            _ => check_token(token, index + 1)?,
        }
    }
    Ok(())
}

/// Checks one token without wildcards; `number` counts from 1.
pub(crate) fn check_token(token: &str, number: usize) -> Result<(), TopicError> {
    if token.is_empty() {
        return Err(TopicError::EmptyToken(number));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match token.chars().find(|&c| !allowed(c)) {
        Some(c @ ('*' | '>')) if token.len() == 1 => return Err(TopicError::Wildcard(c)),
        Some(c) => return Err(TopicError::Character(c)),
        None => {}
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TopicError::TokenTooLong(token.len()));
    }
    Ok(())
}
