//! Starts the fleet, shows what it tells, and ends it in the agreed way.

use std::process::ExitCode;
use std::time::Duration;

use longlived_client::Client;
use longlived_client::fleet::{Fleet, Snapshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::view::View;
use super::{Args, ContractFlag};
use crate::open_files;
use crate::show::Tone;
use crate::signals::{self, StopSignals};

/// Without data for so long, a person wonders what is wrong.
const NO_DATA: Duration = Duration::from_secs(5);
/// Files that a process of few connections needs.
const FILES_FEW: u32 = 256;

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let config = args.config()?;
    let connections = args.connections();
    if connections > FILES_FEW {
        open_files::raise();
    }
    let client = Client::builder(args.server.server.as_str())
        .connections(connections as usize)
        .build()?;
    let mut view = View::new(&args);
    view.say(Tone::Dim, &opening(&args))?;
    if let Some(warning) = too_slow(&args) {
        view.say(Tone::Wait, &warning)?;
    }
    let mut fleet = Fleet::start(client, config);
    let mut drought = Drought::new(&args, Instant::now());
    let end = args.duration.map(|duration| Instant::now() + duration);
    let second = Duration::from_secs(1);
    let mut tick = interval_at(Instant::now() + second, second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let why = loop {
        tokio::select! {
            biased;
            (name, _) = signals.next() => break format!("{name}: "),
            () = until(end) => break String::new(),
            _ = tick.tick() => {
                let snapshot = fleet.snapshot();
                view.numbers(&snapshot)?;
                if let Some(hint) = drought.look(&snapshot, Instant::now()) {
                    view.no_data(NO_DATA, hint)?;
                }
            }
            happening = fleet.next_happening() => match happening {
                Some(happening) => view.happening(&happening)?,
                // Everybody ended for a reason of its own; each has told it.
                None => break "all clients have ended; ".to_owned(),
            },
        }
    };
    view.say(Tone::Dim, &format!("{why}unsubscribing everybody"))?;
    fleet.leave();
    loop {
        tokio::select! {
            biased;
            (_, number) = signals.next() => return Ok(signals::ended_by(number)),
            happening = fleet.next_happening() => match happening {
                Some(happening) => view.happening(&happening)?,
                None => break,
            },
        }
    }
    let verdict = fleet.stop().await;
    view.verdict(&verdict)?;
    Ok(ExitCode::from(u8::from(!verdict.is_clean())))
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// What to say of a run that ends before its last client has begun.
fn too_slow(args: &Args) -> Option<String> {
    let (duration, last) = (args.duration?, args.last_start());
    (last >= duration).then(|| {
        format!(
            "the last client starts after {}, and that is after the end: the verdict will say who never took part",
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
        (ContractFlag::Protos, _) => "what the server sends to protos.Longlived".to_owned(),
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

/// Watches for a time without data, and knows what would help.
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

    /// What to say now, if something is: once in each drought.
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

    /// With a server of its own, whatever the environment says.
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
