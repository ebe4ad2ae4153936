//! The load against a server made of `h2`, which decodes the requests written by hand and frames the responses.

mod server;
mod status;

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe};
use std::thread::JoinHandle;

use longlived_console::CompressionFlag;

use self::server::{Behaviour, TestServer};
use super::control::{
    Command, Connected, Finished, Plan, Protocol, PublishPlan, Published, Report, Trust,
};
use super::event_loop::Load;
use crate::args::{PayloadKind, Topics};
use crate::clock::monotonic_ns;
use crate::tokens::TokenPlan;

const SECOND_NS: u64 = 1_000_000_000;

/// A load in a thread, spoken to as a process is.
struct TestLoad {
    commands: PipeWriter,
    reports: BufReader<PipeReader>,
    thread: JoinHandle<()>,
}

impl TestLoad {
    fn start(plan: &Plan) -> Self {
        let (command_reader, commands) = pipe().unwrap();
        let (reports, report_writer) = pipe().unwrap();
        let plan = plan.clone();
        let thread = std::thread::spawn(move || {
            Load::new(plan, BufReader::new(command_reader), report_writer)
                .unwrap()
                .run()
                .unwrap();
        });
        let mut load = Self {
            commands,
            reports: BufReader::new(reports),
            thread,
        };
        assert!(matches!(load.hear(), Report::Ready));
        load
    }

    fn tell(&mut self, command: &Command) {
        let line = serde_json::to_string(command).unwrap();
        // In two parts: a line need not arrive in one read.
        let (first, second) = line.split_at(line.len() / 2);
        self.commands.write_all(first.as_bytes()).unwrap();
        self.commands
            .write_all(format!("{second}\n").as_bytes())
            .unwrap();
    }

    fn hear(&mut self) -> Report {
        let mut line = String::new();
        self.reports.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn connect(&mut self) -> Connected {
        self.tell(&Command::Connect {
            deadline_ns: monotonic_ns() + 20 * SECOND_NS,
        });
        match self.hear() {
            Report::Connected(connected) => connected,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, rate: u64, payload_bytes: u32, in_flight_max: u64) -> Published {
        self.publish_every(0, rate, payload_bytes, in_flight_max)
    }

    fn publish_every(
        &mut self,
        interval_ns: u64,
        rate: u64,
        payload_bytes: u32,
        in_flight_max: u64,
    ) -> Published {
        let begin_ns = monotonic_ns();
        let end_ns = begin_ns + SECOND_NS / 2;
        self.tell(&Command::Window {
            start_ns: begin_ns,
            end_ns: end_ns + 20 * SECOND_NS,
        });
        self.tell(&Command::Publish(PublishPlan {
            begin_ns,
            end_ns,
            rate,
            interval_ns,
            payload_bytes,
            in_flight_max,
        }));
        match self.hear() {
            Report::Published(published) => published,
            other => panic!("{other:?}"),
        }
    }

    fn finish(mut self, published: &Published) -> Finished {
        let deadline_ns = monotonic_ns() + 20 * SECOND_NS;
        self.tell(&Command::Finish {
            published: published.clone(),
            quiet_ns: SECOND_NS,
            deadline_ns,
        });
        let report = self.hear();
        self.thread.join().unwrap();
        match report {
            Report::Finished(finished) => finished,
            other => panic!("{other:?}"),
        }
    }
}

fn plan(server: &TestServer, connections: u32, streams: u32, topics: Topics) -> Plan {
    Plan {
        server: server.address,
        connections,
        streams,
        local_addresses: None,
        subscriber_first: 0,
        subscribers_total: u64::from(connections * streams),
        topics,
        stream_window_bytes: 1 << 20,
        connection_window_bytes: 16 << 20,
        sample_every: 1,
        protocol: Protocol::Grpc,
        compression: CompressionFlag::None,
        payload_kind: PayloadKind::Dots,
        tls: server.tls.clone(),
        tokens: None,
    }
}

#[test]
fn every_subscriber_is_welcomed_and_receives_every_message() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 3, 40, Topics::One));
    let connected = load.connect();
    assert_eq!(
        (connected.welcomed, connected.refused, connected.trouble),
        (120, 0, None)
    );

    let published = load.publish(200, 128, 1000);
    assert_eq!(published.trouble, None);
    assert_eq!(published.acknowledged, published.sent);
    assert!(
        (20..=101).contains(&published.sent),
        "200/s for half a second gave {}",
        published.sent
    );

    let finished = load.finish(&published);
    assert_eq!(
        (finished.lost, finished.repeated, finished.ended),
        (0, 0, 0)
    );
    assert_eq!(finished.delivered, published.sent * 120);
    assert_eq!(finished.delivered_in_window, finished.delivered);
    assert_eq!(finished.gaps, 120);
    let latencies: u64 = finished.latencies.iter().map(|(_, count)| count).sum();
    // A reader that is far behind may cut an event at the end of its buffer.
    assert!(
        latencies.abs_diff(finished.delivered) < 10,
        "{latencies} of {}",
        finished.delivered
    );
    assert!(
        finished
            .latencies
            .iter()
            .all(|(nanoseconds, _)| *nanoseconds < 20 * SECOND_NS)
    );
}

#[test]
fn over_tls_every_subscriber_receives_every_message_of_every_size() {
    for payload_bytes in [128, 100_000] {
        let server = TestServer::start_with_tls(Trust::Certificate);
        let mut load = TestLoad::start(&plan(&server, 3, 10, Topics::One));
        let connected = load.connect();
        assert_eq!((connected.welcomed, connected.trouble), (30, None));
        assert_eq!(connected.sessions_resumed, 0);
        let published = load.publish(60, payload_bytes, 1000);
        assert_eq!(
            (published.trouble.as_deref(), published.acknowledged),
            (None, published.sent)
        );
        let finished = load.finish(&published);
        assert_eq!((finished.lost, finished.repeated), (0, 0));
        assert_eq!(finished.delivered, published.sent * 30);
        assert!(!finished.latencies.is_empty());
    }
}

#[test]
fn every_call_brings_the_token() {
    let server = TestServer::start(Behaviour::AsksForToken);
    let with_token = Plan {
        tokens: Some(TokenPlan::Static(server::TOKEN.to_owned())),
        ..plan(&server, 2, 3, Topics::One)
    };
    let mut load = TestLoad::start(&with_token);
    assert_eq!(load.connect().welcomed, 6);
    let published = load.publish(50, 64, 1000);
    assert_eq!(published.acknowledged, published.sent);
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
}

#[test]
fn connections_that_are_opened_again_resume_their_sessions() {
    let server = TestServer::start_with_tls(Trust::Certificate);
    // More than are opened at a time: the last ones find the tickets of the first.
    let mut plan = plan(&server, 300, 2, Topics::One);
    plan.tls.as_mut().unwrap().tickets = true;
    let mut load = TestLoad::start(&plan);
    for resumed in [0, 300, 300] {
        let connected = load.connect();
        assert_eq!((connected.welcomed, connected.trouble), (600, None));
        assert_eq!(connected.sessions_resumed, resumed);
        load.tell(&Command::Close);
        assert!(matches!(load.hear(), Report::Ready));
    }
}

#[test]
fn the_authority_of_a_running_server_is_checked() {
    let server = TestServer::start_with_tls(Trust::Authorities);
    let right = plan(&server, 2, 1, Topics::One);
    assert_eq!(TestLoad::start(&right).connect().welcomed, 2);
    let other = TestServer::start_with_tls(Trust::Authorities);
    let another = TestServer::start_with_tls(Trust::Certificate);
    for tls in [other.tls.clone(), another.tls.clone()] {
        let wrong = Plan {
            tls,
            ..right.clone()
        };
        let connected = TestLoad::start(&wrong).connect();
        assert_eq!((connected.welcomed, connected.refused), (0, 2));
        let trouble = connected.trouble.unwrap();
        assert!(trouble.starts_with("TLS: "), "{trouble}");
    }
}

#[test]
fn a_server_without_tls_is_a_refusal_over_tls() {
    let server = TestServer::start(Behaviour::Correct);
    let with_tls = TestServer::start_with_tls(Trust::Certificate);
    let wrong = Plan {
        tls: with_tls.tls.clone(),
        ..plan(&server, 1, 1, Topics::One)
    };
    let connected = TestLoad::start(&wrong).connect();
    assert_eq!((connected.welcomed, connected.refused), (0, 1));
    assert!(connected.trouble.is_some());
}

#[test]
fn messages_larger_than_frames_and_windows_arrive() {
    let server = TestServer::start(Behaviour::Correct);
    let small_windows = Plan {
        stream_window_bytes: 65_535,
        connection_window_bytes: 65_535,
        ..plan(&server, 1, 3, Topics::One)
    };
    let mut load = TestLoad::start(&small_windows);
    assert_eq!(load.connect().welcomed, 3);
    let published = load.publish(60, 100_000, 1000);
    assert_eq!(
        (published.trouble.as_deref(), published.acknowledged),
        (None, published.sent)
    );
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
    assert_eq!(finished.delivered, published.sent * 3);
}

#[test]
fn without_a_rate_no_more_than_allowed_is_in_flight_and_all_arrives() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 2, 1, Topics::One));
    assert_eq!(load.connect().welcomed, 2);
    let published = load.publish(0, 64, 16);
    assert_eq!(
        (published.trouble.as_deref(), published.acknowledged),
        (None, published.sent)
    );
    assert!(published.sent > 16, "{}", published.sent);
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
    assert_eq!(finished.delivered, published.sent * 2);
}

#[test]
fn with_an_interval_messages_leave_in_groups() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 1, 1, Topics::One));
    assert_eq!(load.connect().welcomed, 1);
    let published = load.publish_every(SECOND_NS / 10, 1_000, 32, 1000);
    // One at the begin, and from then on 100 in every tenth of the half second.
    assert_eq!((published.sent - 1) % 100, 0, "{}", published.sent);
    assert!((101..=401).contains(&published.sent), "{}", published.sent);
    let finished = load.finish(&published);
    assert_eq!(finished.delivered, published.sent);
}

#[test]
fn inboxes_are_published_to_in_turn() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 2, 5, Topics::Inbox));
    assert_eq!(load.connect().welcomed, 10);
    let published = load.publish(100, 32, 1000);
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
    assert_eq!(finished.delivered, published.sent);
}

#[test]
fn messages_that_the_server_swallows_are_reported_as_lost() {
    let server = TestServer::start(Behaviour::LosesSome);
    let mut load = TestLoad::start(&plan(&server, 1, 3, Topics::One));
    assert_eq!(load.connect().welcomed, 3);
    let published = load.publish(100, 32, 1000);
    let finished = load.finish(&published);
    assert_eq!(finished.lost, published.sent / 10);
    assert_eq!(finished.repeated, 0);
}

#[test]
fn a_refused_stream_is_named_with_its_status() {
    let server = TestServer::start(Behaviour::RefusesOne);
    let mut load = TestLoad::start(&plan(&server, 1, 4, Topics::One));
    let connected = load.connect();
    assert_eq!((connected.welcomed, connected.refused), (3, 1));
    assert_eq!(
        connected.trouble.as_deref(),
        Some("the server ended a stream with gRPC status 14")
    );
}

#[test]
fn nobody_listening_is_a_refusal_and_not_a_panic() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = TestServer::start(Behaviour::Correct);
    let nowhere = Plan {
        server: free,
        ..plan(&server, 2, 3, Topics::One)
    };
    let connected = TestLoad::start(&nowhere).connect();
    assert_eq!((connected.welcomed, connected.refused), (0, 6));
    assert!(connected.trouble.unwrap().contains("refused"));
}
