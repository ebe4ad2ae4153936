//! A bearer token as an application gives it: as text, or as a file that is read again.
//!
//! Holds: no error and no Debug output has a token in it; an error of a file names its path.
//! Does not: keep a token that is sent; `credential.rs` does.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tonic::metadata::{Ascii, MetadataValue};

/// The largest token: servers and proxies take header fields of 8 to 16 KiB in all.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The bytes of a file that are looked at: a token, and blanks and line breaks around it.
const FILE_BYTES_MAX: u64 = 2 * TOKEN_BYTES_MAX as u64;

/// The token cannot be sent. The text names the file, if there is one, and has nothing of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", path.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display())))]
pub struct TokenError {
    path: Option<PathBuf>,
    reason: String,
}

/// A bearer token that a client sends with every call; see [`ClientBuilder::token`](crate::ClientBuilder::token).
///
/// ```
/// use longlived_client::{Client, Token};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("longlived-token-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("token");
/// # std::fs::write(&path, "secret\n")?;
/// // For example "/run/secrets/token". A server that refuses it is tried again with the next one in the file.
/// let token = Token::file(&path)?.tell_with(|trouble| eprintln!("{trouble}"));
/// let client = Client::builder("https://example.net:7443").token(token).build()?;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Token {
    pub(crate) source: TokenSource,
    pub(crate) tell: Option<Tell>,
}

/// Where a token comes from.
#[derive(Clone)]
pub(crate) enum TokenSource {
    Text(Header),
    /// And what it held at first.
    File(PathBuf, Header),
}

/// Hears that a token file could not be read.
pub(crate) type Tell = Arc<dyn Fn(&TokenError) + Send + Sync>;

/// A token in the form in which it is sent, marked as sensitive: HPACK does not index it, and Debug does not show it.
pub(crate) type Header = MetadataValue<Ascii>;

impl Token {
    /// A token that stays the same. Blanks and line breaks around it are left out.
    pub fn new(text: impl AsRef<str>) -> Result<Self, TokenError> {
        let header = header(text.as_ref().as_bytes());
        let header = header.map_err(|reason| TokenError { path: None, reason })?;
        Ok(Self {
            source: TokenSource::Text(header),
            tell: None,
        })
    }

    /// The token in a file, which has nothing else but blanks and line breaks around it. The file is read now, and again:
    /// at each new connection, before each stream, and for other calls when it was last read 2 s ago. So a program that
    /// replaces the file needs to tell nobody. While the file cannot be used the last token that was in it is sent.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let path = path.into();
        let header = read(&path)?;
        Ok(Self {
            source: TokenSource::File(path, header),
            tell: None,
        })
    }

    /// Calls `tell` when the file cannot be used any more: once, until it could be used again. The library also logs
    /// a warning. `tell` must not wait: calls do until it returns.
    #[must_use]
    pub fn tell_with(mut self, tell: impl Fn(&TokenError) + Send + Sync + 'static) -> Self {
        self.tell = Some(Arc::new(tell));
        self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.source {
            TokenSource::Text(_) => None,
            TokenSource::File(path, _) => Some(path),
        };
        f.debug_struct("Token")
            .field("file", &path)
            .finish_non_exhaustive()
    }
}

/// Reads a token file. It may wait for the disk.
pub(crate) fn read(path: &Path) -> Result<Header, TokenError> {
    let content = content(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    });
    content
        .and_then(|content| header(&content))
        .map_err(|reason| error_of(path, reason))
}

/// An error of a token file.
pub(crate) fn error_of(path: &Path, reason: impl Into<String>) -> TokenError {
    TokenError {
        path: Some(path.to_owned()),
        reason: reason.into(),
    }
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// `Bearer` and the token in these bytes, or the mistake in them.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, String> {
    let token = bytes.trim_ascii();
    let is_of_a_token = |byte: &u8| byte.is_ascii_graphic();
    let mistake = match token.iter().find(|byte| !is_of_a_token(byte)) {
        _ if token.is_empty() => "it is empty".to_owned(),
        _ if token.len() > TOKEN_BYTES_MAX => format!("it has more than {TOKEN_BYTES_MAX} bytes"),
        None => {
            let text = [b"Bearer ", token].concat();
            let mut header = Header::try_from(text).map_err(|error| error.to_string())?;
            header.set_sensitive(true);
            return Ok(header);
        }
        Some(byte) if byte.is_ascii_whitespace() => {
            "it has a blank or a line break inside; a token has none, and nothing stands beside it"
                .to_owned()
        }
        Some(_) => {
            "it has a character that no token has: a token is visible ASCII characters".to_owned()
        }
    };
    Err(mistake)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        header(bytes).unwrap_err()
    }

    #[test]
    fn a_token_is_sent_without_the_blanks_around_it_and_shown_nowhere() {
        for text in ["secret", "secret\n", " secret\r\n\n", "\tsecret "] {
            let header = header(text.as_bytes()).unwrap();
            assert_eq!(header.to_str().unwrap(), "Bearer secret");
            assert!(header.is_sensitive());
            assert!(!format!("{header:?}").contains("secret"));
        }
        let token = Token::new("secret").unwrap();
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_token_is_refused_without_a_word_of_it() {
        let large = "secret".repeat(TOKEN_BYTES_MAX / 6 + 1);
        assert!(header(&[b'a'; TOKEN_BYTES_MAX]).is_ok());
        for (text, mistake) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            (large.as_str(), "it has more than 8192 bytes"),
            ("Bearer secret", "it has a blank or a line break inside"),
            ("secret\nsecret", "it has a blank or a line break inside"),
            ("secr\u{e9}t", "visible ASCII characters"),
            ("secret\0", "visible ASCII characters"),
            ("secret\u{7f}", "visible ASCII characters"),
        ] {
            let said = said(text.as_bytes());
            assert!(said.contains(mistake), "{text:?}: {said}");
            assert!(!said.contains("secr"), "{said}");
            let error = Token::new(text).unwrap_err();
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = std::env::temp_dir();
        let error = Token::file(&folder).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: it is not a regular file", folder.display())
        );
        let error = Token::file("/nonexistent/token").unwrap_err().to_string();
        assert_eq!(error, "/nonexistent/token: there is no such file");
    }
}
