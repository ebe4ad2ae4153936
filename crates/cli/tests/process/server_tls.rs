//! TLS: who is let in to what, and certificates that change under a running server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use longlived_client::{Client, Item, Notice, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;

use super::server_metrics::{told_at, value};
use super::support::{Server, longlived, run_to_end, stop_signals, until, within};

/// An authority, and the files of a server.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    pub(crate) authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    /// With a certificate for 127.0.0.1.
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: CertifiedIssuer::self_signed(authority, key).unwrap(),
        };
        fs::write(files.file("ca.pem"), files.authority.pem()).unwrap();
        files.certify("127.0.0.1");
        files
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// Writes a new certificate of this name, and its key.
    fn certify(&self, name: &str) {
        self.certify_until(name, 4000);
    }

    fn certify_until(&self, name: &str, year: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.file("cert.pem"), certificate.pem()).unwrap();
    }

    /// The same with a key of RSA, of 2,048 bits.
    pub(crate) fn certify_rsa(&self) {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.file("cert.pem"), certificate.pem()).unwrap();
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = [
            "--tls-cert",
            &self.text("cert.pem"),
            "--tls-key",
            &self.text("key.pem"),
        ];
        flags.map(ToOwned::to_owned).to_vec()
    }

    async fn serve(&self, flags: &[&str]) -> Server {
        let mut command = longlived();
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "tls://127.0.0.1:0",
        ]);
        Server::of(command.args(self.flags()).args(flags)).await
    }

    pub(crate) fn trusting(&self) -> TlsOptions {
        let pem = fs::read(self.file("ca.pem")).unwrap();
        TlsOptions::default().trust(&pem).unwrap()
    }
}

/// The URL of its TLS listener.
pub(crate) async fn https(server: &Server) -> String {
    const SAID: &str = "listening on tls://";
    let line = server
        .line("the TLS listener", |line| line.contains(SAID))
        .await;
    let address = line.split_once(SAID).unwrap().1;
    format!("https://{}", address.trim())
}

#[tokio::test]
async fn a_message_published_in_the_clear_is_delivered_over_tls_and_back_after_a_kill() {
    let files = Files::new();
    let data = files.text("data");
    let mut server = files.serve(&["--data-dir", &data]).await;
    let url = https(&server).await;
    let client = Client::builder(&url).tls(files.trusting()).build().unwrap();
    let mut subscriber = client.subscriber("s").filter("news").build().unwrap();
    until("the Welcome", async || {
        let item = subscriber.next().await.unwrap().unwrap();
        matches!(item, Item::Notice(Notice::Connected { .. })).then_some(())
    })
    .await;
    server.publish("news", "one").await.unwrap();
    let clear = server.address;
    server.kill().await;
    let listen = url.replace("https", "tls");
    let mut command = longlived();
    command.args(["serve", "--listen", &clear.to_string(), "--listen", &listen]);
    let server = Server::of(command.args(files.flags()).args(["--data-dir", &data])).await;
    server.publish("news", "two").await.unwrap();
    let events = async {
        let mut payloads = Vec::new();
        while payloads.len() < 2 {
            match subscriber.next().await.unwrap().unwrap() {
                Item::Event(event) => payloads.push(event.payload),
                Item::Gap(gap) => panic!("nothing is missing: {gap}"),
                _ => {}
            }
        }
        payloads
    };
    assert_eq!(within("the events", events).await, ["one", "two"]);
}

#[tokio::test]
async fn commands_reach_it_by_its_authority_and_by_no_other_way() {
    let files = Files::new();
    let server = files.serve(&[]).await;
    let url = https(&server).await;
    let ca = files.text("ca.pem");
    let clear = url.replace("https", "http");
    let wrong_port = format!("https://{}", server.address);
    let ask = async |server: &str, flags: &[&str]| {
        let mut command = longlived();
        command
            .args(["healthcheck", "--server", server])
            .args(flags);
        let (code, out, err) = run_to_end(&mut command).await;
        (code, out + &err)
    };
    let trusting = ["--tls-ca", &ca];
    assert_eq!(ask(&url, &trusting).await.0, Some(0));
    let named = [&trusting[..], &["--tls-server-name", "other.example"]].concat();
    let localhost = url.replace("127.0.0.1", "localhost");
    let as_address = [&trusting[..], &["--tls-server-name", "127.0.0.1"]].concat();
    for (server, flags, problem) in [
        (&url, &[][..], "an authority that is not trusted"),
        (&url, &named, "other.example"),
        (&localhost, &trusting, "not valid for name"),
        (&clear, &[], "it speaks TLS"),
        (&wrong_port, &trusting, "it may not speak TLS"),
        (&url, &["--tls-ca", "/nowhere.pem"], "--tls-ca /nowhere.pem"),
        (
            &url,
            &["--tls-ca", &files.text("key.pem")],
            "no certificate in PEM",
        ),
    ] {
        let (code, said) = ask(server, flags).await;
        assert_eq!(code, Some(1), "{server} {flags:?}: {said}");
        assert!(said.contains(problem), "{server} {flags:?}: {said}");
    }
    for (server, flags, problem) in [
        (&clear, &trusting[..], "--tls-ca: the server"),
        (&url, &["--tls-server-name", "a b"], "--tls-server-name"),
    ] {
        let (code, said) = ask(server, flags).await;
        assert_eq!(code, Some(2), "{server} {flags:?}: {said}");
        assert!(said.contains(problem), "{server} {flags:?}: {said}");
    }
    assert_eq!(ask(&localhost, &as_address).await.0, Some(0));
    let shouted = url.replace("https", "HTTPS");
    assert_eq!(ask(&shouted, &trusting).await.0, Some(0));
    server
        .line("the handshakes that failed", |line| {
            line.contains("TLS handshake failed")
        })
        .await;
}

/// Makes it read the files at once. False where SIGHUP is ignored, as under `nohup`: then it looks by itself.
pub(crate) fn asks_again(server: &Server) -> bool {
    let takes_it = stop_signals()
        .iter()
        .any(|(signal, _)| *signal == Signal::HUP);
    if takes_it {
        server.signal(Signal::HUP);
    }
    takes_it
}

/// How often the log has said that.
fn count(server: &Server, said: &str) -> usize {
    let lines = server.lines();
    lines.iter().filter(|line| line.contains(said)).count()
}

#[tokio::test]
async fn a_new_certificate_holds_for_new_connections_and_a_broken_one_changes_nothing() {
    const UNUSABLE: &str = "the new certificate cannot be used";
    const SAME: &str = "have not changed";
    let files = Files::new();
    let server = files.serve(&["--metrics-listen", "127.0.0.1:0"]).await;
    let (url, metrics) = (https(&server).await, told_at(&server).await);
    let client = |name: &str| {
        let tls = files.trusting().server_name(name).unwrap();
        let client = Client::builder(&url).tls(tls).build().unwrap();
        client.publisher()
    };
    let before = client("127.0.0.1");
    within("an answer", before.publish(("a", "x")))
        .await
        .unwrap();
    let stale = async || value(metrics, "longlived_tls_certificate_stale").await;
    assert_eq!(stale().await, 0);
    assert!(value(metrics, "longlived_tls_certificate_not_after_seconds").await > 1_800_000_000);
    if asks_again(&server) {
        server.line(SAME, |line| line.contains(SAME)).await;
    }

    // As Kubernetes does it: the folder that a link names is another one.
    let good = fs::read(files.file("cert.pem")).unwrap();
    fs::write(files.file("broken.pem"), "no certificate").unwrap();
    fs::remove_file(files.file("cert.pem")).unwrap();
    std::os::unix::fs::symlink(files.file("broken.pem"), files.file("cert.pem")).unwrap();
    asks_again(&server);
    server.line(UNUSABLE, |line| line.contains(UNUSABLE)).await;
    assert_eq!(stale().await, 1);
    within("an answer", client("127.0.0.1").publish(("a", "x")))
        .await
        .unwrap();
    // It says so again to one that asks, and to nobody else.
    let told = count(&server, UNUSABLE);
    if asks_again(&server) {
        let again = async || (count(&server, UNUSABLE) > told).then_some(());
        until("it says so again", again).await;
    }

    // The one that holds comes back: its sessions go on.
    fs::remove_file(files.file("cert.pem")).unwrap();
    fs::write(files.file("cert.pem"), good).unwrap();
    asks_again(&server);
    let again = "of the certificate that holds, again";
    server.line(again, |line| line.contains(again)).await;
    assert_eq!(stale().await, 0);

    // One that has ended is none, and nobody asks: it looks by itself.
    let told = count(&server, UNUSABLE);
    files.certify_until("old.example", 2020);
    until("it is refused", async || {
        (count(&server, UNUSABLE) > told).then_some(())
    })
    .await;
    server
        .line("why", |line| line.contains("it ended at"))
        .await;
    files.certify("new.example");
    let said = "a new certificate holds";
    server.line(said, |line| line.contains(said)).await;
    within("an answer", client("new.example").publish(("a", "x")))
        .await
        .unwrap();
    assert_eq!(stale().await, 0);
    let mut command = longlived();
    command.args([
        "healthcheck",
        "--server",
        &url,
        "--tls-ca",
        &files.text("ca.pem"),
    ]);
    let (code, _, err) = run_to_end(&mut command).await;
    assert_eq!(code, Some(1), "the old name is not in it: {err}");
    // The connection that was open goes on.
    within("an answer", before.publish(("a", "x")))
        .await
        .unwrap();
}

#[tokio::test]
async fn half_a_handshake_ends_at_its_deadline_and_holds_up_nobody() {
    let files = Files::new();
    let flags = ["--handshake-timeout", "1s", "--handshakes-max", "51"];
    let metrics = ["--metrics-listen", "127.0.0.1:0"];
    let server = files.serve(&[&flags[..], &metrics].concat()).await;
    let (url, metrics) = (https(&server).await, told_at(&server).await);
    let address = url.strip_prefix("https://").unwrap();
    let mut halves = Vec::new();
    for _ in 0..50 {
        let mut half = TcpStream::connect(address).await.unwrap();
        // The header of a handshake record of 512 bytes, and a byte of it.
        half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        halves.push(half);
    }
    let client = Client::builder(&url).tls(files.trusting()).build().unwrap();
    let publisher = client.publisher();
    within("an answer", publisher.publish(("a", "x")))
        .await
        .unwrap();
    for mut half in halves {
        let mut rest = Vec::new();
        let closed = within("the end of half a handshake", half.read_to_end(&mut rest)).await;
        assert!(closed.is_err() || rest.is_empty(), "{rest:?}");
    }
    // A peer may hear of it before it is counted.
    until("each that met its deadline is counted", async || {
        let failed = value(metrics, "longlived_tls_handshakes_failed_total").await;
        assert!(failed <= 50, "{failed}");
        (failed == 50).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_fails_the_start_with_its_flag() {
    let files = Files::new();
    let other = Files::new();
    fs::write(files.file("empty"), "").unwrap();
    let whole = fs::read(files.file("cert.pem")).unwrap();
    fs::write(files.file("half.pem"), &whole[..whole.len() / 2]).unwrap();
    let locked = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    fs::write(files.file("locked.key"), locked).unwrap();
    let pipe = files.text("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    fs::write(files.file("large"), "x".repeat((1 << 20) + 1)).unwrap();
    let (cert, key) = (files.text("cert.pem"), files.text("key.pem"));
    for (cert, key, problem) in [
        (
            "/nowhere.pem",
            key.as_str(),
            "--tls-cert: certificate /nowhere.pem: there is no such file",
        ),
        (
            &cert,
            "/nowhere.pem",
            "--tls-key: key /nowhere.pem: there is no such file",
        ),
        (&files.text("empty"), &key, "it has no certificate in PEM"),
        (&cert, &files.text("empty"), "it has no private key in PEM"),
        (&files.text("large"), &key, "it has more than 1048576 bytes"),
        (
            &cert,
            &other.text("key.pem"),
            "it is not the key of the certificate",
        ),
        (
            &files.text("half.pem"),
            &key,
            "its PEM is not whole: a section has no END line",
        ),
        (&cert, &files.text("locked.key"), "it has a passphrase"),
        // A pipe that nobody writes to would be waited for.
        (&pipe, &key, "it is not a regular file"),
    ] {
        let mut command = longlived();
        command
            .args(["serve", "--listen", "tls://127.0.0.1:0"])
            .stdin(Stdio::null());
        command.args(["--tls-cert", cert, "--tls-key", key]);
        let (code, _, err) = run_to_end(&mut command).await;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(problem), "{problem}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[tokio::test]
async fn a_certificate_and_the_listeners_that_need_it_come_together() {
    for (flags, problem) in [
        (
            &["--listen", "tls://127.0.0.1:7443"][..],
            "--listen: tls://127.0.0.1:7443 needs --tls-cert and --tls-key",
        ),
        (&["--tls-cert", "a"], "--tls-cert needs --tls-key"),
        (&["--tls-key", "a"], "--tls-key needs --tls-cert"),
        (
            &["--tls-cert", "a", "--tls-key", "b"],
            "--tls-cert: no --listen begins with tls://",
        ),
    ] {
        let (code, _, err) = run_to_end(longlived().arg("serve").args(flags)).await;
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(problem), "{problem}: {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[tokio::test]
async fn events_larger_than_every_buffer_arrive_whole_at_a_reader_that_pauses() {
    const EVENTS: usize = 60;
    let files = Files::new();
    let server = files.serve(&[]).await;
    let url = https(&server).await;
    let payload = |index: usize| format!("{index} {}", "x".repeat(100_000 + index * 3_001));
    for index in 0..EVENTS {
        server.publish("large", &payload(index)).await.unwrap();
    }
    let client = Client::builder(&url).tls(files.trusting()).build().unwrap();
    let subscribers = (0..3).map(|index| {
        let subscriber = client.subscriber(format!("s{index}")).filter("large");
        subscriber.earliest().build().unwrap()
    });
    // They take turns: while one reads, the windows of the others are full.
    for mut subscriber in subscribers.collect::<Vec<_>>() {
        let mut next = 0;
        let all = async {
            while next < EVENTS {
                match subscriber.next().await.unwrap().unwrap() {
                    Item::Event(event) => {
                        assert!(event.payload == payload(next).as_bytes(), "event {next}");
                        next += 1;
                    }
                    Item::Gap(gap) => panic!("nothing is missing: {gap}"),
                    _ => {}
                }
            }
        };
        within("all events", all).await;
    }
}
