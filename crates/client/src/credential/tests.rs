use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn counting() -> (Credentials, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let credentials = Credentials::provided(move || {
        let turn = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, BoxError>(format!("token-{turn}")) }
    });
    (credentials, asked)
}

fn text(credential: Option<Credential>) -> String {
    let header = credential.unwrap().header;
    header
        .to_str()
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap()
        .to_owned()
}

async fn for_call(credentials: &Credentials) -> Option<Credential> {
    let long_ago = Instant::now() - Duration::from_secs(60);
    credentials.for_call(long_ago).await.unwrap()
}

/// A token file in a folder of its own, with the number of times that trouble with it was told.
struct TokenFile {
    folder: PathBuf,
    path: PathBuf,
    told: Arc<AtomicU32>,
}

impl TokenFile {
    fn new(name: &str, token: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("longlived-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("token");
        fs::write(&path, token).unwrap();
        Self {
            folder,
            path,
            told: Arc::default(),
        }
    }

    fn credentials(&self) -> Credentials {
        let told = self.told.clone();
        let token = Token::file(&self.path).unwrap();
        Credentials::token(token.tell_with(move |error| {
            assert!(error.to_string().contains("token: "), "{error}");
            told.fetch_add(1, Ordering::Relaxed);
        }))
    }

    fn holds(&self, token: &str) {
        fs::write(&self.path, token).unwrap();
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test]
async fn a_credential_is_asked_for_once_and_kept() {
    let (credentials, asked) = counting();
    for _ in 0..3 {
        assert_eq!(text(for_call(&credentials).await), "token-0");
        assert_eq!(text(credentials.for_stream(None).await.unwrap()), "token-0");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_refusals_of_one_credential_ask_for_one_fresh_one() {
    let (credentials, asked) = counting();
    let refused = for_call(&credentials).await.unwrap();
    for _ in 0..5 {
        let fresh = credentials.other_than(&refused).await.unwrap();
        assert_eq!(text(fresh), "token-1");
        let fresh = credentials.for_stream(Some(&refused)).await.unwrap();
        assert_eq!(text(fresh), "token-1");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_asked_again_before_its_token_ends_and_many_share_the_answer() {
    let (credentials, asked) = counting();
    let held = for_call(&credentials).await;
    // It has just been asked.
    let fresh = credentials.fresher_than(held.as_ref()).await.unwrap();
    assert!(fresh.is_none());
    tokio::time::advance(READ_AGE_MAX * 2).await;
    for _ in 0..5 {
        let fresh = credentials.fresher_than(held.as_ref()).await.unwrap();
        assert_eq!(text(fresh), "token-1");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_given_up() {
    let credentials = Credentials::provided(std::future::pending::<Result<String, BoxError>>);
    assert!(matches!(
        credentials.for_stream(None).await,
        Err(CredentialError::Timeout)
    ));
}

#[tokio::test]
async fn a_provider_that_gives_no_token_is_told_so_without_it() {
    let credentials =
        Credentials::provided(|| async { Ok::<_, BoxError>("secret secret".to_owned()) });
    let error = credentials.for_stream(None).await.unwrap_err().to_string();
    assert!(error.contains("it has a blank"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_credential_never_shows_in_debug_output() {
    let (credentials, _) = counting();
    let credential = for_call(&credentials).await.unwrap();
    assert!(!format!("{credentials:?} {credential:?}").contains("token"));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_before_each_stream_and_for_calls_when_that_was_long_ago() {
    let file = TokenFile::new("read", "one\n");
    let credentials = file.credentials();
    assert_eq!(text(for_call(&credentials).await), "one");
    file.holds("two");
    assert_eq!(text(for_call(&credentials).await), "one");
    // Over a new connection.
    let call = credentials.for_call(Instant::now()).await.unwrap();
    assert_eq!(text(call), "one");
    tokio::time::advance(Duration::from_millis(1)).await;
    let call = credentials.for_call(Instant::now()).await.unwrap();
    assert_eq!(text(call), "two");
    file.holds("three");
    tokio::time::advance(Duration::from_millis(1)).await;
    let stream = credentials.for_stream(None).await.unwrap();
    assert_eq!(text(stream.clone()), "three");
    // Also after a refusal of an earlier one.
    file.holds("four");
    tokio::time::advance(Duration::from_millis(1)).await;
    let stream = credentials.for_stream(stream.as_ref()).await.unwrap();
    assert_eq!(text(stream), "four");
    file.holds("five");
    tokio::time::advance(READ_AGE_MAX).await;
    assert_eq!(text(for_call(&credentials).await), "four");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(text(for_call(&credentials).await), "five");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_of_a_file_is_replaced_only_by_another() {
    let file = TokenFile::new("refused", "one");
    let credentials = file.credentials();
    let refused = for_call(&credentials).await.unwrap();
    assert!(credentials.other_than(&refused).await.unwrap().is_none());
    file.holds("two");
    assert_eq!(text(credentials.other_than(&refused).await.unwrap()), "two");
}

#[tokio::test(start_paused = true)]
async fn while_a_file_cannot_be_used_its_last_token_is_sent_and_that_is_told_once() {
    let file = TokenFile::new("unread", "one");
    let credentials = file.credentials();
    for trouble in 1..=2 {
        for wrong in ["", "two two"] {
            file.holds(wrong);
            tokio::time::advance(READ_AGE_MAX * 2).await;
            assert_eq!(text(for_call(&credentials).await), "one");
            assert_eq!(file.told.load(Ordering::Relaxed), trouble);
        }
        file.holds("one");
        tokio::time::advance(READ_AGE_MAX * 2).await;
        assert_eq!(text(for_call(&credentials).await), "one");
    }
}

#[tokio::test]
async fn a_token_that_is_no_files_stays_as_it_is() {
    let credentials = Credentials::token(Token::new("one").unwrap());
    let kept = for_call(&credentials).await.unwrap();
    assert!(credentials.other_than(&kept).await.unwrap().is_none());
    let fresher = credentials.fresher_than(Some(&kept)).await.unwrap();
    assert!(fresher.is_none());
    assert_eq!(credentials.remedy(), Remedy::Nothing);
    let none = Credentials::none();
    assert!(none.for_stream(None).await.unwrap().is_none());
}
