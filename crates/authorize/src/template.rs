//! Topic filters with placeholders, which each caller fills with what its token says of it.
//!
//! Holds: a value takes the place of one whole token, and is one: `*`, `>`, `a.b` and an empty text fill nothing. Nor does
//! `inbox` at the first place, where it would reach the inboxes of others.

use std::fmt;

use longlived_topic::{TopicError, TopicFilter, is_reserved, is_token};

/// What a value is put in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder<'t> {
    /// `{sub}`: the subject of the token.
    Sub,
    /// `{claim:NAME}`: a claim of the token.
    Claim(&'t str),
}

/// A topic filter, some of whose tokens may be placeholders.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// Without placeholders.
    Filter(TopicFilter),
    Tokens(Box<[Token]>),
}

#[derive(Clone, PartialEq, Eq)]
enum Token {
    Text(Box<str>),
    Sub,
    Claim(Box<str>),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Apart from its placeholders it is no topic filter.
    #[error(transparent)]
    Filter(#[from] TopicError),
    /// A placeholder beside other text in one token.
    #[error("has a placeholder beside other text in token {0}; a placeholder is a whole token")]
    NotWhole(usize),
    /// None that there is.
    #[error("has a placeholder in token {0} that is neither {{sub}} nor {{claim:NAME}}")]
    Unknown(usize),
    /// The name of the claim is too long.
    #[error("names a claim of {0} bytes; at most {CLAIM_NAME_BYTES_MAX} are allowed")]
    ClaimNameTooLong(usize),
}

/// The longest name of a claim, in bytes.
const CLAIM_NAME_BYTES_MAX: usize = 256;

impl Template {
    /// Checks the grammar.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if !text.contains(['{', '}']) {
            return Ok(Self(Kind::Filter(TopicFilter::parse(text)?)));
        }
        let mut tokens = Vec::new();
        let mut rest = Some(text);
        while let Some(left) = rest {
            let number = tokens.len() + 1;
            let (token, after) = if let Some(inner) = left.strip_prefix('{') {
                let closed = inner.split_once('}');
                let (name, after) = closed.ok_or(TemplateError::Unknown(number))?;
                (Token::placeholder(name, number)?, after)
            } else {
                let (token, after) = left.split_at(left.find('.').unwrap_or(left.len()));
                if token.contains(['{', '}']) {
                    return Err(TemplateError::NotWhole(number));
                }
                (Token::Text(token.into()), after)
            };
            tokens.push(token);
            rest = match after.strip_prefix('.') {
                None if !after.is_empty() => return Err(TemplateError::NotWhole(number)),
                rest => rest,
            };
        }
        // A name of a claim may have dots, so the grammar is asked with a token in its place.
        TopicFilter::parse(&joined(&tokens, |_| "x"))?;
        Ok(Self(Kind::Tokens(tokens.into())))
    }

    /// The filter for one caller. `None` if a value is missing or is not one token without wildcards.
    pub fn fill<'v>(
        &self,
        value: impl Fn(Placeholder<'_>) -> Option<&'v str>,
    ) -> Option<TopicFilter> {
        let tokens = match &self.0 {
            Kind::Filter(filter) => return Some(filter.clone()),
            Kind::Tokens(tokens) => tokens,
        };
        let is_legal = |(index, token): (usize, &Token)| {
            let Some(placeholder) = token.as_placeholder() else {
                return true;
            };
            let value = value(placeholder);
            value.is_some_and(|value| is_token(value) && (index > 0 || !is_reserved(value)))
        };
        if !tokens.iter().enumerate().all(is_legal) {
            return None;
        }
        let text = joined(tokens, |placeholder| value(placeholder).unwrap_or_default());
        TopicFilter::parse(&text).ok()
    }

    /// The filter of a template without placeholders.
    pub fn literal(&self) -> Option<&TopicFilter> {
        match &self.0 {
            Kind::Filter(filter) => Some(filter),
            Kind::Tokens(_) => None,
        }
    }
}

impl Token {
    fn placeholder(name: &str, number: usize) -> Result<Self, TemplateError> {
        if name == "sub" {
            return Ok(Self::Sub);
        }
        let claim = name.strip_prefix("claim:");
        let is_name = |claim: &&str| {
            !claim.is_empty() && !claim.contains(|c: char| c == '{' || c.is_control())
        };
        let claim = claim.filter(is_name);
        let claim = claim.ok_or(TemplateError::Unknown(number))?;
        if claim.len() > CLAIM_NAME_BYTES_MAX {
            return Err(TemplateError::ClaimNameTooLong(claim.len()));
        }
        Ok(Self::Claim(claim.into()))
    }

    fn as_placeholder(&self) -> Option<Placeholder<'_>> {
        match self {
            Self::Text(_) => None,
            Self::Sub => Some(Placeholder::Sub),
            Self::Claim(name) => Some(Placeholder::Claim(name)),
        }
    }
}

fn joined<'v>(tokens: &'v [Token], value: impl Fn(Placeholder<'_>) -> &'v str) -> String {
    let texts: Vec<&str> = tokens
        .iter()
        .map(|token| match token {
            Token::Text(text) => text,
            Token::Sub => value(Placeholder::Sub),
            Token::Claim(name) => value(Placeholder::Claim(name)),
        })
        .collect();
    texts.join(".")
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = match &self.0 {
            Kind::Filter(filter) => return filter.fmt(f),
            Kind::Tokens(tokens) => tokens,
        };
        for (index, token) in tokens.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            match token {
                Token::Text(text) => f.write_str(text)?,
                Token::Sub => f.write_str("{sub}")?,
                Token::Claim(name) => write!(f, "{{claim:{name}}}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

#[cfg(test)]
mod tests;
