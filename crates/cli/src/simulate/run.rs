//! Starts the fleet, shows its happenings, and ends it in the agreed way.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use longlived_client::fleet::{Fleet, FleetConfig, Snapshot};
use longlived_client::{Client, Item, Notice, Position, PublishError};
use longlived_console::{open_files, sink::OutputError};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_stream::StreamExt as _;

use super::publishing::{Answer, Publishing};
use super::record::History;
use super::view::View;
use super::{Args, ContractFlag};
use crate::show::Tone;
use crate::signals::{self, StopSignals};
use crate::values;

/// After this time without data a person wonders about the reason.
const NO_DATA: Duration = Duration::from_secs(5);
/// How long the end waits for answers and for acknowledged messages.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// How often it looks whether that has come.
const SETTLE_LOOK: Duration = Duration::from_millis(50);
/// How long the end waits for a server that says where its log ends.
const HEAD_MAX: Duration = Duration::from_secs(3);
/// How long the verdict waits for a reader after a signal.
const VERDICT_MAX: Duration = Duration::from_secs(3);
/// Files that a process of few connections needs.
const FILES_FEW: u32 = 256;

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    values::few_filters(&args.topics)?;
    let signals = StopSignals::new()?;
    let config = args.config()?;
    let history = args.record.as_deref();
    let history = history
        .map(|path| History::create(path, &args.foreign()))
        .transpose()?;
    let view = View::new(&args);
    let out = view.out();
    let ended = tokio::select! {
        biased;
        gone = out.gone() => Err(gone.into()),
        ended = simulate(&args, config, signals, history.as_ref(), view) => ended,
    };
    // After every end, all told records are in the file.
    let closed = history.map_or(Ok(()), History::close);
    let code = ended?;
    closed?;
    Ok(code)
}

async fn simulate(
    args: &Args,
    config: FleetConfig,
    mut signals: StopSignals,
    history: Option<&History>,
    view: View,
) -> anyhow::Result<ExitCode> {
    let connections = args.connections();
    if connections > FILES_FEW {
        open_files::raise();
    }
    let client = args.server.client()?.connections(connections as usize);
    let mut client = args.compression.apply(client);
    if let Some(history) = history {
        client = client.recording(history.recording());
    }
    let client = client.build()?;
    view.say(Tone::Dim, &opening(args));
    if let Some(warning) = too_slow(args) {
        view.say(Tone::Wait, &warning);
    }
    let publishing = args
        .publish_every
        .map(|every| Publishing::new(&client, args.published(), every));
    let mut run = Run {
        fleet: Fleet::start(client, config),
        view,
        publishing,
        history,
        clients: args.clients,
        published: Published::default(),
    };
    let mut drought = Drought::new(args, Instant::now());
    let end = args.duration.map(|duration| Instant::now() + duration);
    let second = Duration::from_secs(1);
    let mut tick = interval_at(Instant::now() + second, second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told_to_end = false;
    let why = loop {
        tokio::select! {
            biased;
            (name, _) = signals.next() => {
                told_to_end = true;
                break format!("{name}: ");
            }
            () = until(end) => break String::new(),
            () = broken(history) => break "the history cannot be written; ".to_owned(),
            _ = tick.tick() => {
                let snapshot = run.look();
                run.view.numbers(&snapshot);
                if let Some(hint) = drought.look(&snapshot, Instant::now()) {
                    run.view.no_data(NO_DATA, hint);
                }
            }
            more = run.step() => if !more? {
                // Every client ended for a reason of its own; each has told it.
                break "all clients have ended; ".to_owned();
            },
        }
    };
    tokio::select! {
        biased;
        (_, number) = signals.next() => return Ok(signals::ended_by(number)),
        settled = run.settle(&args.server.server) => settled?,
    }
    run.view
        .say(Tone::Dim, &format!("{why}unsubscribing everybody"));
    run.fleet.leave();
    loop {
        tokio::select! {
            biased;
            (_, number) = signals.next() => return Ok(signals::ended_by(number)),
            happening = run.fleet.next_happening() => match happening {
                Some(happening) => run.view.happening(&happening),
                None => break,
            },
        }
    }
    let verdict = run.fleet.stop().await;
    let published = run.publishing.is_some().then_some(&run.published);
    tokio::select! {
        biased;
        (_, number) = signals.next() => return Ok(signals::ended_by(number)),
        told = run.view.verdict(&verdict, published) => told?,
        () = patience(told_to_end) => {
            let nobody = io::Error::new(io::ErrorKind::TimedOut, "nobody takes the verdict");
            return Err(OutputError::from(nobody).into());
        }
    }
    Ok(ExitCode::from(u8::from(!verdict.is_clean())))
}

/// Without a signal the verdict waits for its reader. After a signal its sender waits for the end.
async fn patience(told_to_end: bool) {
    if told_to_end {
        sleep(VERDICT_MAX).await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// The outcomes of the messages that this command published.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) acknowledged: u64,
    pub(super) not_stored: u64,
    pub(super) unknown: u64,
}

/// Everything that runs, watched in one loop.
struct Run<'a> {
    fleet: Fleet,
    view: View,
    publishing: Option<Publishing>,
    history: Option<&'a History>,
    clients: u32,
    published: Published,
}

impl Run<'_> {
    /// The numbers of this moment.
    fn look(&self) -> Snapshot {
        let snapshot = self.fleet.snapshot();
        if let Some(history) = self.history
            && snapshot.connected == self.clients
        {
            history.everybody_is_connected();
        }
        snapshot
    }

    /// Takes the next happening; false after the last one. Safe to drop while it waits.
    async fn step(&mut self) -> anyhow::Result<bool> {
        tokio::select! {
            biased;
            (topic, answer) = next_answer(&mut self.publishing) => match answer {
                Ok(answer) => {
                    self.published.acknowledged += 1;
                    self.fleet.acknowledged(answer.position, &topic);
                }
                Err(PublishError::Unknown { .. }) => self.published.unknown += 1,
                Err(_) => self.published.not_stored += 1,
            },
            happening = self.fleet.next_happening() => match happening {
                Some(happening) => self.view.happening(&happening),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Waits, for a limited time, until each publish is answered and each acknowledged message has come. Then asks for
    /// the end of the log.
    async fn settle(&mut self, server: &str) -> anyhow::Result<()> {
        if let Some(publishing) = &mut self.publishing {
            publishing.finish();
            let deadline = Instant::now() + SETTLE_MAX;
            while Instant::now() < deadline && !self.is_settled() {
                self.pass(SETTLE_LOOK).await?;
            }
        }
        if let Some(history) = self.history {
            self.look();
            let mut head = std::pin::pin!(tokio::time::timeout(HEAD_MAX, head(server)));
            let head = loop {
                tokio::select! {
                    head = &mut head => break head.ok().flatten(),
                    more = self.step() => if !more? {
                        break head.await.ok().flatten();
                    },
                }
            };
            // A server that is away says nothing, and neither does the history.
            if let Some(head) = head {
                history.head(head);
            }
        }
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let answered = self.publishing.as_ref().is_none_or(Publishing::is_answered);
        answered && self.fleet.outstanding() == 0
    }

    /// Takes happenings for a while.
    async fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(end) => return Ok(()),
                more = self.step() => if !more? {
                    sleep_until(end).await;
                    return Ok(());
                },
            }
        }
    }
}

/// The last position of the log, as the server tells a new subscriber.
async fn head(server: &str) -> Option<Position> {
    let id = format!("simulate-head-{:016x}", rand::random::<u64>());
    // A client of its own: this stream is none of those that are judged.
    let client = Client::new(server).ok()?;
    let inbox = format!("inbox.{id}");
    let mut subscriber = client.subscriber(id).filter(inbox).build().ok()?;
    let position = loop {
        if let Item::Notice(Notice::Connected { position, .. }) = subscriber.next().await?.ok()? {
            break position;
        }
    };
    // Its answer changes nothing any more.
    let _ = subscriber.unsubscribe().await;
    Some(position)
}

/// Never, where nothing is published.
async fn next_answer(publishing: &mut Option<Publishing>) -> Answer {
    match publishing {
        Some(publishing) => publishing.next().await,
        None => std::future::pending().await,
    }
}

/// Never, where nothing is recorded.
async fn broken(history: Option<&History>) {
    match history {
        Some(history) => history.broken().await,
        None => std::future::pending().await,
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The warning about a run that ends before its last client has begun.
fn too_slow(args: &Args) -> Option<String> {
    let (duration, last) = (args.duration?, args.last_start());
    (last >= duration).then(|| {
        format!(
            "the last client starts after {}, and that is after the end: the verdict will name the clients that never took part",
            humantime::format_duration(last)
        )
    })
}

fn opening(args: &Args) -> String {
    let plural = |count: u32, one: &str| match count {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let follows = match (args.contract, args.topics.as_slice()) {
        (ContractFlag::Protos, _) => "the server's messages to protos.Longlived".to_owned(),
        (ContractFlag::V1, []) => "each its inbox".to_owned(),
        (ContractFlag::V1, topics) => topics.join(", "),
    };
    let end = match args.duration {
        Some(duration) => format!("for {}", humantime::format_duration(duration)),
        None => "until Ctrl-C".to_owned(),
    };
    let warning = match args.contract {
        ContractFlag::V1 => "",
        ContractFlag::Protos => "; loss cannot be known: this contract carries no sequences",
    };
    format!(
        "{} over {} to {}, following {follows}, {end}{warning}",
        plural(args.clients, "client"),
        plural(args.connections(), "connection"),
        args.server.server,
    )
}

/// Watches for a time without data, and knows the remedy.
struct Drought {
    no_server: String,
    no_publisher: String,
    delivered: u64,
    since: Instant,
    said: bool,
}

impl Drought {
    fn new(args: &Args, now: Instant) -> Self {
        let server = &args.server.server;
        let elsewhere = if server == "http://127.0.0.1:7070" {
            String::new()
        } else {
            format!(" --server {server}")
        };
        let topic = args
            .topics
            .iter()
            .find(|topic| !topic.contains(['*', '>']))
            .map_or("inbox.1", String::as_str);
        let listen = server
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        let listen = if elsewhere.is_empty() {
            String::new()
        } else {
            format!(" --listen {listen}")
        };
        Self {
            no_server: format!(
                "nobody has a stream; is there a server? `longlived serve{listen} --generate-every 1s` \
                 starts one"
            ),
            no_publisher: format!(
                "nothing is published; `longlived publish{elsewhere} {topic} hello` makes some, and a \
                 server started with `longlived serve --generate-every 1s` always does"
            ),
            delivered: 0,
            since: now,
            said: false,
        }
    }

    /// The hint that is to be printed now, if any: once in each drought.
    fn look(&mut self, snapshot: &Snapshot, now: Instant) -> Option<&str> {
        if snapshot.delivered != self.delivered {
            self.delivered = snapshot.delivered;
            self.since = now;
            self.said = false;
        }
        if self.said || now.duration_since(self.since) < NO_DATA {
            return None;
        }
        self.said = true;
        Some(if snapshot.connected == 0 {
            &self.no_server
        } else {
            &self.no_publisher
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        simulate: Args,
    }

    /// With a server of its own, and not that of the environment.
    fn args_at(server: &str, flags: &[&str]) -> Args {
        let words = ["simulate", "--server", server];
        Alone::try_parse_from(words.iter().chain(flags))
            .unwrap()
            .simulate
    }

    fn args(flags: &[&str]) -> Args {
        args_at("http://127.0.0.1:7070", flags)
    }

    #[test]
    fn a_drought_is_told_once_and_again_after_rain() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut drought = Drought::new(&args(&[]), began);
        let snapshot = |connected, delivered| Snapshot {
            connected,
            delivered,
            ..Snapshot::default()
        };
        assert_eq!(drought.look(&snapshot(0, 0), at(4)), None);
        let hint = drought.look(&snapshot(0, 0), at(5)).unwrap();
        assert!(
            hint.contains("longlived serve --generate-every 1s"),
            "{hint}"
        );
        assert_eq!(drought.look(&snapshot(0, 0), at(6)), None);
        assert_eq!(drought.look(&snapshot(1, 3), at(7)), None);
        let hint = drought.look(&snapshot(1, 3), at(12)).unwrap();
        assert!(hint.contains("longlived publish inbox.1 hello"), "{hint}");
    }

    #[test]
    fn the_hint_publishes_where_the_clients_listen() {
        let args = args_at("http://a:1", &["--topic", "orders.>", "orders.eu"]);
        let drought = Drought::new(&args, Instant::now());
        let expected = "longlived publish --server http://a:1 orders.eu hello";
        assert!(
            drought.no_publisher.contains(expected),
            "{}",
            drought.no_publisher
        );
        assert!(drought.no_server.contains("--listen a:1"));
    }

    #[test]
    fn the_opening_says_who_where_and_how_long() {
        assert_eq!(
            opening(&args(&["--clients", "250", "--duration", "90s"])),
            "250 clients over 3 connections to http://127.0.0.1:7070, following each its inbox, for 1m 30s"
        );
        assert!(opening(&args(&["--contract", "protos"])).contains("loss cannot be known"));
    }
}
