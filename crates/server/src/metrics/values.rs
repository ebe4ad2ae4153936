//! The metrics of a node, by name, unit and meaning.
//!
//! Holds: every value is read when it is asked for, from state that the node keeps anyway; publishing and delivering do
//! nothing for it.
//! Does not: keep anything between two scrapes.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use tokio::sync::Semaphore;

use crate::{
    node::Node,
    registry::SubscriberStates,
    transport::{acceptor::ConnectionCounts, tls::Tls},
};

/// Where the values of one node are read.
pub(crate) struct NodeValues {
    node: Arc<Node>,
    connections: ConnectionCounts,
    // `None` where no listener has a certificate.
    tls: Option<Arc<Tls>>,
    // `None` where they are not counted.
    log_drops: Option<LogDrops>,
    started: SystemTime,
    // One scrape at a time looks at all subscribers.
    sampling: Semaphore,
}

/// Says how many lines of the log were dropped since the start.
pub(crate) type LogDrops = Box<dyn Fn() -> u64 + Send + Sync>;

impl NodeValues {
    /// Of a node that begins to serve now.
    pub(crate) fn new(
        node: Arc<Node>,
        connections: ConnectionCounts,
        tls: Option<Arc<Tls>>,
        log_drops: Option<LogDrops>,
    ) -> Self {
        Self {
            started: node.environment.now(),
            sampling: Semaphore::new(1),
            node,
            connections,
            tls,
            log_drops,
        }
    }

    fn store(&self, to: &mut To<'_>) -> fmt::Result {
        let Some(stats) = self.node.log.store_stats() else {
            return Ok(());
        };
        to.counter(
            "store_commits",
            "Batches synced to the data directory since the start.",
            stats.commits,
        )?;
        to.counter(
            "store_events",
            "Events in the batches synced since the start.",
            stats.committed_events,
        )?;
        to.counter(
            "store_reads",
            "Blocks and batches read from the disk for readers since the start.",
            stats.reads,
        )?;
        to.counter(
            "store_damaged",
            "Blocks and batches found damaged since the start; their events are lost and announced as gaps.",
            stats.damaged,
        )
    }

    fn log(&self, to: &mut To<'_>) -> fmt::Result {
        let log = &self.node.log;
        let possible = log.writable().borrow().is_ok();
        to.gauge(
            "publishing_possible",
            "1 while the store takes messages, 0 while publishers are refused (the disk is full or broken).",
            i64::from(possible),
        )?;
        to.gauge(
            "log_visible_sequence",
            "Sequence of the last event that subscribers may see; it may be lower under another epoch.",
            whole(log.visible()),
        )?;
        to.gauge_of(
            "publish_time_ahead",
            "How far the publish time of the last event is ahead of the clock: 0 unless the clock was set back.",
            Some(&Unit::Seconds),
            whole(log.publish_time_ahead().as_secs()),
        )?;
        to.info(
            "log_epoch_info",
            "Always 1; the label says the epoch, the identity of the history that the sequences belong to.",
            &[("epoch", log.epoch().get())],
        )?;
        to.gauge(
            "channels",
            "Topic filters whose live tail is kept for readers.",
            whole(log.live_tails()),
        )?;
        to.counter(
            "channels_refused",
            "Topic filters refused since the start because as many as allowed were followed.",
            log.live_tails_refused(),
        )?;
        to.counter(
            "message_ids_evicted_early",
            "Message ids that newer ones pushed out before their age since the start; their messages, sent again, are \
             stored twice.",
            log.message_ids_evicted_early(),
        )?;
        to.counter(
            "elsewhere_failures",
            "Times since the start that the events of other nodes could not be had and were asked for again.",
            log.elsewhere_failures(),
        )?;
        to.gauge_of(
            "publish_queue",
            "Bytes of messages that wait to be stored.",
            Some(&Unit::Bytes),
            whole(log.publish_queue_bytes()),
        )?;
        to.gauge_of(
            "publish_queue_max",
            "Bytes of messages that may wait to be stored; publishers wait beyond that.",
            Some(&Unit::Bytes),
            whole(log.publish_queue_bytes_max()),
        )
    }

    fn compression(&self, to: &mut To<'_>) -> fmt::Result {
        let counts = self.node.log.compression_counts();
        to.counter_by(
            "compressed_events",
            "Times an event was compressed since the start: once for all subscribers of a contract and encoding, \
             unless it was pushed out of what is kept.",
            "encoding",
            [("gzip", counts.gzip), ("zstd", counts.zstd)],
        )?;
        to.gauge_of(
            "compressed_kept",
            "Bytes of compressed events that are kept for further readers.",
            Some(&Unit::Bytes),
            whole(counts.kept_bytes),
        )
    }

    fn subscribers(states: SubscriberStates, to: &mut To<'_>) -> fmt::Result {
        to.gauge_by(
            "subscribers",
            "Live sessions of subscribers: whether they follow the live tails (live, stalled) or have left them \
             (catching_up, parked), and whether their readers take what they are sent (live, catching_up) or nothing \
             (stalled, parked).",
            "state",
            states.named(),
        )
    }

    fn peers(&self, to: &mut To<'_>) -> fmt::Result {
        to.gauge(
            "connections",
            "Connections open to all listeners.",
            whole(self.connections.open()),
        )?;
        to.gauge(
            "connections_max",
            "Connections that may be open: fewer than the flag says where not all fit into the open files.",
            whole(self.node.config.acceptor.connections_max()),
        )?;
        to.gauge(
            "connections_full",
            "Connections with as many streams as allowed; further calls on them wait at the client.",
            whole(self.connections.full()),
        )?;
        let connections = &self.connections;
        to.counter_by(
            "strangers",
            "Connections closed since the start because they spoke something else than HTTP/2.",
            "speaks",
            (connections.strangers()).map(|(stranger, count)| (stranger.as_str(), count)),
        )?;
        to.counter_by(
            "address_connections_refused",
            "Connections closed since the start because of a limit of their address.",
            "limit",
            connections.refused_addresses(),
        )?;
        to.counter_by(
            "proxy_connections_refused",
            "Connections closed since the start by listeners behind proxies, since no proxy named their client.",
            "reason",
            connections.refused_by_proxy(),
        )?;
        to.counter_by(
            "requests_refused",
            "Requests since the start that their connection refused before a method saw them.",
            "reason",
            (connections.refused_requests()).map(|(reason, count)| (reason.as_str(), count)),
        )?;
        to.counter_by(
            "connections_cut",
            "Connections ended since the start with an error of HTTP/2.",
            "reason",
            (connections.cut()).map(|(reason, count)| (reason.as_str(), count)),
        )?;
        to.counter(
            "connections_refused",
            "Connections closed at once since the start because as many as allowed were open.",
            self.connections.refused(),
        )
    }

    fn tls(&self, to: &mut To<'_>) -> fmt::Result {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        to.gauge_of(
            "tls_certificate_not_after",
            "When the certificate of new connections ends, in seconds since 1970-01-01 UTC.",
            Some(&Unit::Seconds),
            tls.not_after(),
        )?;
        to.gauge(
            "tls_certificate_stale",
            "1 while the files of the certificate have a content that cannot be used and an older one holds, else 0.",
            i64::from(tls.is_stale()),
        )?;
        to.counter(
            "tls_handshakes_failed",
            "TLS handshakes that failed since the start.",
            tls.failed_handshakes(),
        )
    }

    fn callers(&self, to: &mut To<'_>) -> fmt::Result {
        let callers = &self.node.callers;
        let Some(is_stale) = callers.is_stale() else {
            return Ok(());
        };
        to.gauge(
            "auth_file_stale",
            "1 while the auth file has a content that cannot be used and an older one holds, else 0.",
            i64::from(is_stale),
        )?;
        to.counter(
            "calls_unauthenticated",
            "Calls refused since the start because no caller was found for them.",
            callers.refused(),
        )
    }

    fn life(&self, to: &mut To<'_>) -> fmt::Result {
        to.gauge(
            "draining",
            "1 once the node was told to stop and refuses new calls, else 0.",
            i64::from(self.node.drain.is_draining()),
        )?;
        if let Some(log_drops) = &self.log_drops {
            to.counter(
                "log_lines_dropped",
                "Lines of the log dropped since the start because nobody took them or they could not be written.",
                log_drops(),
            )?;
        }
        let started = self.started.duration_since(UNIX_EPOCH);
        to.gauge_of(
            "start_time",
            "When the node began to serve, in seconds since 1970-01-01 UTC.",
            Some(&Unit::Seconds),
            started.unwrap_or_default().as_secs_f64(),
        )
    }
}

/// The values of one moment.
pub(crate) struct Sample {
    values: Arc<NodeValues>,
    // Which take several steps, so that other tasks have their turn between them.
    subscribers: SubscriberStates,
}

impl Sample {
    /// The values of now.
    pub(crate) async fn take(values: Arc<NodeValues>) -> Self {
        let sampling = values.sampling.acquire().await;
        let subscribers = values.node.registry.states(&values.node.log).await;
        drop(sampling);
        Self {
            values,
            subscribers,
        }
    }
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = To(encoder);
        let values = &*self.values;
        values.store(&mut to)?;
        values.log(&mut to)?;
        values.compression(&mut to)?;
        NodeValues::subscribers(self.subscribers, &mut to)?;
        values.peers(&mut to)?;
        values.tls(&mut to)?;
        values.callers(&mut to)?;
        values.life(&mut to)
    }
}

impl fmt::Debug for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample")
            .field("subscribers", &self.subscribers)
            .finish_non_exhaustive()
    }
}

/// Writes one metric at a time. The encoder puts the prefix before a name and unit and `_total` behind it.
struct To<'a>(DescriptorEncoder<'a>);

impl To<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = MetricType::Counter;
        let encoder = self.0.encode_descriptor(name, help, None, counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    /// One value for each value of a label.
    fn counter_by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        self.by(name, help, label, values, ConstCounter::new)
    }

    /// One metric for each value of a label.
    fn by<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
        metric: impl Fn(u64) -> M,
    ) -> fmt::Result {
        let kind = metric(0).metric_type();
        let mut encoder = self.0.encode_descriptor(name, help, None, kind)?;
        for (of, value) in values {
            let labels = [(label, of)];
            metric(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.gauge_of(name, help, None, value)
    }

    /// One value for each value of a label.
    fn gauge_by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        self.by(name, help, label, values, |value| {
            ConstGauge::new(whole(value))
        })
    }

    fn gauge_of(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let gauge = MetricType::Gauge;
        let encoder = self.0.encode_descriptor(name, help, unit, gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// A value that is no number, as a label. A gauge, because the older text format refuses the type `info`.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, u64)]) -> fmt::Result {
        let gauge = MetricType::Gauge;
        let mut encoder = self.0.encode_descriptor(name, help, None, gauge)?;
        ConstGauge::new(1_i64).encode(encoder.encode_family(&labels)?)
    }
}

/// Gauges are signed.
fn whole(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
