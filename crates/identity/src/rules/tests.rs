use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longlived_authorize::{Action, Subject, authorize};
use longlived_topic::TopicFilter;

use super::*;

fn parse(text: &str) -> AuthRules {
    let secret = |_: &Path| -> io::Result<Vec<u8>> { Ok(vec![b's'; 40]) };
    AuthRules::parse(text, &mut { secret }).unwrap()
}

fn allowed(identity: &Identity, action: Action, filter: &str) -> bool {
    let filter = TopicFilter::parse(filter).unwrap();
    authorize(&identity.grants, action, Subject::Filter(&filter)).is_ok()
}

const NOW: SystemTime = UNIX_EPOCH;

#[test]
fn a_token_of_an_issuer_gets_what_the_template_gives() {
    let rules = parse(
        r#"
        [issuers.acme]
        issuer = "https://id.acme.example"
        audience = "longlived"
        keys = [{ algorithm = "HS256", secret = "s" }]
        template = { subscribe = { allow = ["users.{sub}.>", "inbox.{sub}"] } }
        "#,
    );
    let now = NOW + Duration::from_secs(1000);
    let claims = serde_json::json!({
        "iss": "https://id.acme.example", "aud": "longlived", "sub": "bob", "exp": 2000, "iat": 990,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(&[b's'; 40]).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let identity = rules.bearer(&token, now).unwrap();
    assert_eq!(&*identity.principal, "acme/bob");
    assert_eq!(identity.expires, Some(NOW + Duration::from_secs(2000)));
    assert!(allowed(&identity, Action::Subscribe, "users.bob.*"));
    assert!(allowed(&identity, Action::Subscribe, "inbox.bob"));
    assert!(!allowed(&identity, Action::Subscribe, "inbox.eve"));
    assert!(rules.again(&identity.proof, now).is_ok());
}
