//! Certificates of clients: who is let in where, revoked ones, and the end of one under an open connection.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longlived_client::{Client, Item, Notice, TlsOptions};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, KeyIdMethod,
    KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::client::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

use super::server_tls::{Files, asks_again, https};
use super::support::{Server, longlived, run_to_end, until, within};

/// A certificate of a client and its key, in PEM.
struct Shown {
    certificate: String,
    key: String,
}

impl Shown {
    fn of(files: &Files, serial: u64, end: Option<SystemTime>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(end) = end {
            params.not_after = end.into();
        }
        let certificate = params.signed_by(&key, &files.authority).unwrap();
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// To a server that `files` is the authority of.
    fn to(&self, files: &Files) -> TlsOptions {
        let (certificate, key) = (self.certificate.as_bytes(), self.key.as_bytes());
        files.trusting().identity(certificate, key).unwrap()
    }

    /// Asks by the command.
    async fn ask(&self, files: &Files, url: &str) -> (Option<i32>, String) {
        fs::write(files.file("shown.pem"), &self.certificate).unwrap();
        fs::write(files.file("shown.key"), &self.key).unwrap();
        let (certificate, key) = (files.text("shown.pem"), files.text("shown.key"));
        ask(files, url, &["--tls-cert", &certificate, "--tls-key", &key]).await
    }
}

async fn ask(files: &Files, url: &str, flags: &[&str]) -> (Option<i32>, String) {
    let mut command = longlived();
    command.args(["healthcheck", "--server", url]);
    command
        .args(["--tls-ca", &files.text("ca.pem")])
        .args(flags);
    let (code, out, err) = run_to_end(&mut command).await;
    (code, out + &err)
}

/// A server whose TLS listener asks for a certificate.
async fn asking(files: &Files, asked: &str, flags: &[&str]) -> (Server, String) {
    let listen = format!("tls://127.0.0.1:0?client-cert={asked}");
    let mut command = longlived();
    command.args(["serve", "--listen", "127.0.0.1:0", "--listen", &listen]);
    command.args(["--tls-client-ca", &files.text("ca.pem")]);
    let server = Server::of(command.args(files.flags()).args(flags)).await;
    let url = https(&server).await;
    (server, url)
}

#[tokio::test]
async fn a_client_is_let_in_by_a_certificate_of_the_authority() {
    let (files, other) = (Files::new(), Files::new());
    let day = Duration::from_secs(24 * 60 * 60);
    let good = Shown::of(&files, 1, None);
    let foreign = Shown::of(&other, 1, None);
    let ended = Shown::of(&files, 2, Some(SystemTime::now() - day));
    for (asked, without) in [
        ("required", Some(1)),
        ("optional", Some(0)),
        ("none", Some(0)),
    ] {
        let mut command = longlived();
        let listen = format!("tls://127.0.0.1:0?client-cert={asked}");
        command.args(["serve", "--listen", "127.0.0.1:0", "--listen", &listen]);
        if asked != "none" {
            command.args(["--tls-client-ca", &files.text("ca.pem")]);
        }
        let server = Server::of(command.args(files.flags())).await;
        let url = https(&server).await;
        let (code, said) = ask(&files, &url, &[]).await;
        assert_eq!(code, without, "{asked}: {said}");
        if code == Some(1) {
            assert!(
                said.contains("asks for a certificate of the client"),
                "{said}"
            );
        }
        let (code, said) = good.ask(&files, &url).await;
        assert_eq!(code, Some(0), "{asked}: {said}");
        // One that is not asked for is not shown.
        let refused = if asked == "none" { Some(0) } else { Some(1) };
        for wrong in [&foreign, &ended] {
            let (code, said) = wrong.ask(&files, &url).await;
            assert_eq!(code, refused, "{asked}: {said}");
        }
    }
}

/// A list of the authority's, with these serial numbers.
fn revoke(files: &Files, serials: &[u64]) {
    let day = Duration::from_secs(24 * 60 * 60);
    let now = SystemTime::now();
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (now - day).into(),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: (now - day).into(),
        next_update: (now + day).into(),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&files.authority).unwrap();
    fs::write(files.file("crl.pem"), list.pem().unwrap()).unwrap();
}

#[tokio::test]
async fn a_revoked_client_is_refused_at_its_next_connection_and_resumes_no_session() {
    let files = Files::new();
    revoke(&files, &[]);
    let (server, url) = asking(&files, "required", &["--tls-crl", &files.text("crl.pem")]).await;
    let (stays, goes) = (Shown::of(&files, 1, None), Shown::of(&files, 2, None));
    // It has a session that it could resume.
    let client = Client::builder(&url).tls(goes.to(&files)).build().unwrap();
    let mut subscriber = client.subscriber("s").filter("a").build().unwrap();
    let connected = async || {
        let item = subscriber.next().await.unwrap().unwrap();
        matches!(item, Item::Notice(Notice::Connected { .. })).then_some(())
    };
    until("it is connected", connected).await;
    assert_eq!(goes.ask(&files, &url).await.0, Some(0));

    revoke(&files, &[2]);
    asks_again(&server);
    let said = "a new certificate holds";
    server.line(said, |line| line.contains(said)).await;
    assert_eq!(stays.ask(&files, &url).await.0, Some(0));
    let (code, said) = goes.ask(&files, &url).await;
    assert_eq!(code, Some(1), "{said}");
    // The connection for calls is a new one, of a client that has tickets.
    let refused = within("an answer", client.health("", Duration::from_secs(60))).await;
    assert!(refused.is_err(), "{refused:?}");
}

/// A connection that has had the time to take tickets; whether its session was resumed.
async fn resumes(config: &Arc<ClientConfig>, url: &str) -> std::io::Result<bool> {
    let address = url.strip_prefix("https://").unwrap();
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::clone(config));
    let mut socket = connector.connect(name, socket).await?;
    socket
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await?;
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    // The header of the server's SETTINGS; tickets come before it.
    socket.read_exact(&mut [0; 9]).await?;
    let kind = socket.get_ref().1.handshake_kind();
    Ok(kind == Some(HandshakeKind::Resumed))
}

#[tokio::test]
async fn a_session_of_a_client_that_nobody_asked_is_no_way_in_where_a_certificate_is_required() {
    let files = Files::new();
    let mut command = longlived();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "tls://127.0.0.1:0",
    ]);
    command.args(["--listen", "tls://127.0.0.1:0?client-cert=required"]);
    command.args(["--tls-client-ca", &files.text("ca.pem")]);
    let server = Server::of(command.args(files.flags())).await;
    let last = "serving longlived.v1";
    server.line(last, |line| line.contains(last)).await;
    let lines = server.lines();
    let urls = lines
        .iter()
        .filter_map(|line| line.split_once("listening on tls://"));
    let urls: Vec<_> = urls
        .map(|(_, address)| format!("https://{}", address.trim()))
        .collect();
    let [open, required] = urls.as_slice() else {
        panic!("{urls:?}");
    };
    for version in [&TLS13, &TLS12] {
        let mut trusted = RootCertStore::empty();
        trusted.add(files.authority.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        let resumed = async |url: &str| within("an answer", resumes(&config, url)).await;
        assert!(!resumed(open).await.unwrap(), "it is the first");
        assert!(
            resumed(open).await.unwrap(),
            "{version:?}: it has a session"
        );
        let refused = resumed(required).await;
        assert!(refused.is_err(), "{version:?}: {refused:?}");
    }
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_of_its_client() {
    let files = Files::new();
    let (_server, url) = asking(&files, "optional", &[]).await;
    // A busy machine may need longer than the first to connect at all.
    for seconds in [5, 20, 80] {
        let soon = SystemTime::now() + Duration::from_secs(seconds);
        let shown = Shown::of(&files, 1, Some(soon));
        let client = Client::builder(&url).tls(shown.to(&files)).build().unwrap();
        let mut subscriber = client.subscriber("s").filter("a").build().unwrap();
        let mut was_connected = false;
        let ended = async {
            loop {
                match subscriber.next().await.unwrap().unwrap() {
                    Item::Notice(Notice::Connected { .. }) => was_connected = true,
                    Item::Notice(Notice::Disconnected { .. }) => break,
                    _ => {}
                }
            }
        };
        within("the end", ended).await;
        if was_connected {
            // A certificate ends at a whole second.
            let second = Duration::from_secs(1);
            assert!(SystemTime::now() + second >= soon, "not before");
            return;
        }
    }
    panic!("it was never connected");
}

#[tokio::test]
async fn files_of_clients_that_cannot_be_used_fail_the_start_with_their_flag() {
    let files = Files::new();
    fs::write(files.file("empty"), "").unwrap();
    revoke(&files, &[]);
    let list = fs::read_to_string(files.file("crl.pem")).unwrap();
    fs::write(files.file("twice"), list.repeat(2)).unwrap();
    let (ca, empty) = (files.text("ca.pem"), files.text("empty"));
    let (twice, leaf) = (files.text("twice"), files.text("cert.pem"));
    for (ca, crl, problem) in [
        (&empty, None, "--tls-client-ca: authorities of clients"),
        (
            &ca,
            Some(&empty),
            "it has no list of revoked certificates in PEM",
        ),
        (&ca, Some(&ca), "--tls-crl: revoked certificates"),
        (&ca, Some(&twice), "it is a second list of"),
        (&leaf, None, "is not that of an authority (CA:TRUE)"),
    ] {
        let mut command = longlived();
        command.args([
            "serve",
            "--listen",
            "tls://127.0.0.1:0?client-cert=required",
        ]);
        command.args(files.flags()).args(["--tls-client-ca", ca]);
        let flag = crl.map(|crl| ["--tls-crl", crl]);
        let (code, _, err) = run_to_end(command.args(flag.iter().flatten())).await;
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(problem), "{problem}: {err}");
    }
    let certificate = files.flags();
    for (flags, problem) in [
        (
            &["--listen", "tls://127.0.0.1:0?client-cert=optional"][..],
            "client-cert=optional needs --tls-client-ca",
        ),
        (
            &["--listen", "tls://127.0.0.1:0", "--tls-client-ca", "x"],
            "--tls-client-ca: no --listen has client-cert=",
        ),
        (
            &["--listen", "tls://127.0.0.1:0", "--tls-crl", "x"],
            "--tls-crl needs --tls-client-ca",
        ),
    ] {
        let mut command = longlived();
        command.arg("serve").args(&certificate).args(flags);
        let (code, _, err) = run_to_end(&mut command).await;
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(problem), "{problem}: {err}");
    }
}
