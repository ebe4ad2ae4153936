//! Several listeners of one server, and Unix sockets among them: who may connect, and whose the file is.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use futures_util::future::join_all;
use longlived_client::{Client, Item};
use rustix::process::Signal;
use tokio_stream::StreamExt as _;

use super::support::{Server, longlived, run_to_end, until, within};

/// The sockets of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn url(&self, name: &str) -> String {
        format!("unix:{}", self.0.path().join(name).display())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }
}

fn mode(path: &Path) -> u32 {
    let file = fs::symlink_metadata(path).unwrap();
    assert!(file.file_type().is_socket());
    file.permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_message_published_at_a_unix_socket_is_delivered_at_all_listeners() {
    let folder = Folder::new();
    let group = format!("{}?mode=0660", folder.url("group"));
    let mut command = longlived();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.args(["--listen", &folder.url("own"), "--listen", &group]);
    // A line for each call.
    command.env("RUST_LOG", "info,longlived::call=debug");
    let mut server = Server::of(&mut command).await;
    for (name, expected) in [("own", 0o600), ("group", 0o660)] {
        let url = folder.url(name);
        let says = format!("listening on {url}");
        server.line(&says, |line| line.contains(&says)).await;
        assert_eq!(mode(&folder.file(name)), expected, "{name}");
    }
    let urls = [
        format!("http://{}", server.address),
        folder.url("own"),
        folder.url("group"),
    ];
    let mut subscribers = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let client = Client::new(url).unwrap();
        let subscriber = client.subscriber(format!("at-{index}")).filter("news");
        subscribers.push(subscriber.earliest().build().unwrap());
    }
    let published = Client::new(folder.url("own")).unwrap();
    let published = published.publisher().publish(("news", "for all")).await;
    published.unwrap();
    for subscriber in &mut subscribers {
        let event = async {
            loop {
                if let Item::Event(event) = subscriber.next().await.unwrap().unwrap() {
                    return event;
                }
            }
        };
        assert_eq!(within("the event", event).await.payload, "for all");
    }
    let peer = |line: &str| line.contains("peer=unix:uid=") && line.contains(",pid=");
    server.line("the peer of a call", peer).await;
    for command in ["healthcheck", "topics"] {
        let mut command_line = longlived();
        command_line.args([command, "--server", &folder.url("group")]);
        let (code, _, err) = run_to_end(&mut command_line).await;
        assert_eq!(code, Some(0), "{command}: {err}");
    }

    drop(subscribers);
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    for name in ["own", "group"] {
        assert!(!folder.file(name).exists(), "{name} is left behind");
    }
}

#[tokio::test]
async fn listeners_in_the_environment_are_separated_by_blanks() {
    let folder = Folder::new();
    let listen = format!("127.0.0.1:0  {}", folder.url("a"));
    let mut command = longlived();
    command.arg("serve").env("LONGLIVED_LISTEN", listen);
    let server = Server::of(&mut command).await;
    let says = format!("listening on {}", folder.url("a"));
    server.line(&says, |line| line.contains(&says)).await;
    server.publish("a", "x").await.unwrap();
}

#[tokio::test]
async fn a_listener_for_administrators_alone_has_health_and_no_method_for_others() {
    let folder = Folder::new();
    let admin = format!("{}?services=admin", folder.url("admin"));
    let listen = format!("tcp://127.0.0.1:0?services=public {admin}");
    let mut command = longlived();
    command.arg("serve").env("LONGLIVED_LISTEN", listen);
    let server = Server::of(&mut command).await;
    let public = format!("http://{}", server.address);
    for (command, at_admin) in [("healthcheck", Some(0)), ("topics", Some(1))] {
        for (url, expected) in [(&public, Some(0)), (&folder.url("admin"), at_admin)] {
            let mut command_line = longlived();
            command_line.args([command, "--server", url]);
            let (code, out, err) = run_to_end(&mut command_line).await;
            assert_eq!(code, expected, "{command} {url}: {out}{err}");
            if expected == Some(1) {
                let said = "there is no method /longlived.v1.TopicService/ListTopics";
                assert!(err.contains(said), "{err}");
            }
        }
    }
}

#[tokio::test]
async fn the_socket_of_a_live_server_is_refused_and_no_directory_is_made() {
    let folder = Folder::new();
    let url = folder.url("a");
    let _server = Server::start(&["--listen", &url]).await;
    let data = folder.file("data");
    let mut second = longlived();
    second.args(["serve", "--listen", &url, "--data-dir"]);
    let (code, _, err) = run_to_end(second.arg(&data)).await;
    assert_eq!(code, Some(1), "{err}");
    let says = format!("--listen: address {url} is already in use");
    assert!(err.contains(&says), "{err}");
    assert!(!data.exists(), "it was made");
    let client = Client::new(&url).unwrap();
    within("an answer", client.publisher().publish(("a", "x")))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_socket_of_a_killed_server_is_replaced_and_its_subscribers_come_back() {
    let folder = Folder::new();
    let (url, data) = (folder.url("a"), folder.file("data"));
    let args = ["--listen", &url, "--data-dir", data.to_str().unwrap()];
    let mut server = Server::start(&args).await;
    let client = Client::new(&url).unwrap();
    let mut subscriber = client.subscriber("s").filter("news").build().unwrap();
    let welcomed = until("the Welcome", async || {
        let item = subscriber.next().await.unwrap().unwrap();
        matches!(item, Item::Notice(_)).then_some(())
    });
    welcomed.await;
    server.kill().await;
    assert!(folder.file("a").exists(), "a killed server removes nothing");
    let _server = Server::start(&args).await;
    let publisher = client.publisher();
    let answer = publisher.publish(("news", "back"));
    within("an answer", answer).await.unwrap();
    let event = async {
        loop {
            match subscriber.next().await.unwrap().unwrap() {
                Item::Event(event) => return event,
                Item::Gap(gap) => panic!("nothing is missing: {gap}"),
                _ => {}
            }
        }
    };
    assert_eq!(within("the event", event).await.payload, "back");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let file = folder.file("a");
    fs::write(&file, "mine").unwrap();
    let mut command = longlived();
    command.args(["serve", "--listen", &folder.url("a")]);
    let (code, _, err) = run_to_end(&mut command).await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.contains("a file that is not a socket is there"),
        "{err}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn of_servers_that_start_at_once_one_has_the_socket_and_keeps_it() {
    const SERVERS: usize = 6;
    let folder = Folder::new();
    let url = folder.url("a");
    // All find the file of one that is gone.
    drop(std::os::unix::net::UnixListener::bind(folder.file("a")).unwrap());
    let start = || {
        let mut command = longlived();
        command.args(["serve", "--listen", &url]).kill_on_drop(true);
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let mut servers: Vec<_> = (0..SERVERS).map(|_| start()).collect();
    let ended = until("all but one have ended", async || {
        let ended: Vec<_> = servers
            .iter_mut()
            .filter_map(|server| server.try_wait().unwrap())
            .collect();
        (ended.len() >= SERVERS - 1).then_some(ended)
    })
    .await;
    assert!(ended.iter().all(|status| status.code() == Some(1)));
    let client = Client::new(&url).unwrap();
    let publisher = client.publisher();
    let answers = join_all((0..5).map(|_| publisher.publish(("a", "x"))));
    for answer in within("answers", answers).await {
        answer.unwrap();
    }
    let alive = servers.iter_mut().map(|server| server.try_wait().unwrap());
    assert_eq!(alive.filter(Option::is_none).count(), 1);
}

#[tokio::test]
async fn the_mode_is_the_one_that_was_given_under_any_umask_and_all_files_go() {
    const SOCKETS: usize = 8;
    let folder = Folder::new();
    let plain = longlived();
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    command.arg(plain.as_std().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    for index in 0..SOCKETS {
        let place = format!("{}?mode=0666", folder.url(&index.to_string()));
        command.args(["--listen", &place]);
    }
    let mut server = Server::of(command.kill_on_drop(true)).await;
    let last = format!("listening on {}", folder.url(&(SOCKETS - 1).to_string()));
    server.line(&last, |line| line.contains(&last)).await;
    for index in 0..SOCKETS {
        assert_eq!(mode(&folder.file(&index.to_string())), 0o666);
    }
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_is_not_there_fails_the_start_before_data_is_made() {
    let folder = Folder::new();
    let data = folder.file("data");
    let mut command = longlived();
    command.args(["serve", "--listen", &folder.url("no/a"), "--data-dir"]);
    let (code, _, err) = run_to_end(command.arg(&data)).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("its folder") && err.contains("takes no file"),
        "{err}"
    );
    assert!(!data.exists(), "it was made");
}
