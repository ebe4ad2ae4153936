//! The auth file, and which caller a credential makes.
//!
//! Holds: what an auth file says is read once and never changes; a newer file is another [`AuthRules`]. Nothing that a token says
//! leads to a file or to the network. No error and no Debug output shows a token, a key or a secret.
//! Does not: decide what a caller may do, which is `longlived-authorize`; keep verified tokens; watch files.

mod certificate;
mod error;
mod file;
mod identity;
mod quotas;
mod rules;
mod shown;
mod static_token;
mod token;

pub use certificate::CertificateNames;
pub use error::{AuthFileError, CredentialError};
pub use file::{AUTH_FILE_BYTES_MAX, ENTRIES_MAX, FILTERS_MAX, KEY_FILE_BYTES_MAX, KEYS_MAX};
pub use identity::{Identity, Proof};
pub use quotas::Quotas;
pub use rules::AuthRules;
pub use static_token::NewToken;
pub use token::{LEEWAY, MAX_TOKEN_LIFE_DEFAULT, SUB_BYTES_MAX, TOKEN_BYTES_MAX};
