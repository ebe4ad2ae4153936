//! What a person can do about an error of a call: the flag that helps.

use longlived_client::{CallError, PublishError, Refusal, SubscribeError, TopicsError};
use tonic::Code;

/// To stand behind the text of an error; empty where there is nothing to say.
pub(crate) fn on(error: &anyhow::Error) -> &'static str {
    let refused = error.chain().find_map(refusal);
    match refused.map(|refusal| refusal.code) {
        Some(Code::Unauthenticated) => "; --token-file FILE gives a token",
        _ => "",
    }
}

/// The server's words in an error of the client library.
fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refusal> {
    if let Some(SubscribeError::Unauthenticated(refusal)) = error.downcast_ref() {
        Some(refusal)
    } else if let Some(PublishError::Refused(refusal)) = error.downcast_ref() {
        Some(refusal)
    } else if let Some(TopicsError::Call(CallError::Refused(refusal))) = error.downcast_ref() {
        Some(refusal)
    } else {
        None
    }
}
