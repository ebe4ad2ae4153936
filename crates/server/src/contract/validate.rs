//! From request messages to checked plans. Every error names the field and the limit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use longlived_api::v1;
use longlived_broker::{
    Begin, Compression, Epoch, GapPolicy, Message, MessageError, Position, Principal, ReadOptions,
    SlowPolicy,
};
use longlived_topic::{INBOX, SYS, TopicError, TopicFilter, TopicName};

use super::{Attempt, Caller, Contract, NotGranted, Plan, SubscriberKey};
use crate::config::Config;

/// The contract's numbers.
pub(crate) const SUBSCRIBER_ID_BYTES_MAX: usize = 128;
/// Filters of one stream.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 64;
/// Labels of one stream.
pub(crate) const LABELS_MAX: usize = 16;
/// Bytes of a label's name and of its value.
pub(crate) const LABEL_BYTES_MAX: usize = 64;
/// Largest message a client takes when it does not say: gRPC's usual limit.
pub(crate) const MESSAGE_BYTES_DEFAULT: u32 = 4 << 20;
/// The quiet a client may ask for: below, heartbeats would be the traffic; above, dead connections would go
/// unnoticed for too long.
pub(crate) const SILENCE_MIN: Duration = Duration::from_secs(1);
/// As much of the name of a principal as an error quotes.
const PRINCIPAL_CHARS_SHOWN: usize = 256;
/// See [`SILENCE_MIN`].
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(300);

/// The error of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// A oneof or message that must be set is not.
    #[error("`{0}` is not set")]
    Unset(&'static str),
    /// `open` stands first, exactly once.
    #[error("`open` was sent a second time; it stands first, exactly once")]
    SecondOpen,
    /// Not 1 to 128 of the allowed characters.
    #[error(
        "`subscriber_id` {problem}; it is 1 to {SUBSCRIBER_ID_BYTES_MAX} characters of A-Z a-z 0-9 . _ : -"
    )]
    SubscriberId {
        /// The mistake.
        problem: String,
    },
    /// None or too many.
    #[error("`subscriptions` has {0} entries; it needs 1 to {SUBSCRIPTIONS_MAX}")]
    SubscriptionCount(usize),
    /// A topic name or filter is malformed.
    #[error("`{field}` {problem}")]
    Topic {
        /// Which.
        field: &'static str,
        /// The mistake.
        problem: TopicError,
    },
    /// Inboxes belong to one subscriber each.
    #[error(
        "`topic_filter` {filter} is not the inbox of {}; a subscriber may follow its own inbox only",
        named(subscriber)
    )]
    ForeignInbox {
        /// The requested value.
        filter: TopicFilter,
        /// The subscriber.
        subscriber: String,
    },
    /// The caller has no right to this topic, or to all topics of this filter.
    #[error("`{field}` {value} is not granted: {problem}")]
    NotGranted {
        /// Which field.
        field: &'static str,
        /// The requested value.
        value: String,
        /// The rule.
        problem: NotGranted,
    },
    /// Too many labels.
    #[error("`labels` has {0} entries; at most {LABELS_MAX} are allowed")]
    LabelCount(usize),
    /// A label is too long.
    #[error("`labels` has a name or value of {bytes} bytes; at most {LABEL_BYTES_MAX} are allowed")]
    LabelLength {
        /// How long.
        bytes: usize,
    },
    /// A number that the enum does not have.
    #[error("`{field}` is {value}, which the contract does not know")]
    EnumValue {
        /// Which field.
        field: &'static str,
        /// The sent value.
        value: i32,
    },
    /// More of a page than there is in one.
    #[error("`{field}` is {value}; at most {max} are allowed")]
    Page {
        /// Which field.
        field: &'static str,
        /// The requested value.
        value: u32,
        /// The limit.
        max: u32,
    },
    /// No server gave this position.
    #[error("`{field}.{part}` is {value}; a position that a server gave has {min} to {max} there")]
    Position {
        /// Which field holds the position.
        field: &'static str,
        /// Which part of it.
        part: &'static str,
        /// The sent value.
        value: u64,
        /// The least that there is.
        min: u64,
        /// The most that there is.
        max: u64,
    },
    /// Nobody is called so.
    #[error(
        "`principal` is the name of nobody: names of callers do not begin with `$`, and have no zero byte"
    )]
    Principal,
    /// Negative or out of range.
    #[error("`{0}` is not a positive duration")]
    Duration(&'static str),
    /// Before 1970 or out of range.
    #[error("`start.time` is not a time after 1970")]
    Timestamp,
    /// The message to publish.
    #[error(transparent)]
    Message(#[from] MessageError),
}

impl InvalidRequest {
    /// The field that it is about.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Unset(field)
            | Self::Topic { field, .. }
            | Self::EnumValue { field, .. }
            | Self::Page { field, .. }
            | Self::Position { field, .. }
            | Self::NotGranted { field, .. }
            | Self::Duration(field) => field,
            Self::SecondOpen => "open",
            Self::SubscriberId { .. } => "subscriber_id",
            Self::SubscriptionCount(_) => "subscriptions",
            Self::ForeignInbox { .. } => "topic_filter",
            Self::LabelCount(_) | Self::LabelLength { .. } => "labels",
            Self::Principal => "principal",
            Self::Timestamp => "start.time",
            Self::Message(error) => match error {
                MessageError::TooLarge { .. } => "payload",
                MessageError::DeletedWithoutKey => "key",
                MessageError::Reserved | MessageError::NoInbox => "topic",
                MessageError::MessageIdTooLong { .. } => "message_id",
            },
        }
    }
}

fn named(subscriber: &str) -> String {
    if subscriber.is_empty() {
        return "anybody, for `subscriber_id` is not set".to_owned();
    }
    format!("subscriber `{subscriber}`")
}

/// Checks a subscription of version 1.
pub(crate) fn plan(
    request: &v1::SubscribeRequest,
    caller: &Arc<Caller>,
    compression: Compression,
    config: &Config,
) -> Result<Plan, InvalidRequest> {
    let subscriber = subscriber_id(&request.subscriber_id)?;
    let filters = filters(&request.subscriptions, caller, &subscriber)?;
    labels(&request.labels)?;
    let begin = match (&request.resume_after, &request.start) {
        (Some(after), _) => Begin::After(position("resume_after", after)?),
        (None, start) => begin(start.as_ref())?,
    };
    Ok(Plan {
        caller: caller.clone(),
        subscriber,
        filters,
        begin,
        options: ReadOptions {
            gap_policy: gap_policy(request.gap_policy)?,
            slow_policy: slow_policy(request.slow_policy)?,
            message_bytes_max: match request.max_event_bytes {
                0 => MESSAGE_BYTES_DEFAULT,
                bytes => bytes,
            },
            encoding: Contract::V1.dialect().encoding(),
            compression,
        },
        attempt: Attempt {
            instance: request.instance,
            number: request.attempt,
        },
        contract: Contract::V1,
        max_silence: match request.max_silence {
            None => config.max_silence,
            Some(asked) => Duration::try_from(asked)
                .map_err(|_| InvalidRequest::Duration("max_silence"))?
                .clamp(SILENCE_MIN, SILENCE_MAX),
        },
    })
}

/// A position that a server may have given.
pub(crate) fn position(
    field: &'static str,
    position: &v1::Position,
) -> Result<Position, InvalidRequest> {
    let v1::Position { epoch, sequence } = *position;
    let refused = |part, value, min, max| InvalidRequest::Position {
        field,
        part,
        value,
        min,
        max,
    };
    let epoch = Epoch::new(epoch).ok_or_else(|| refused("epoch", epoch, 1, Epoch::MAX))?;
    if sequence > Position::SEQUENCE_MAX {
        return Err(refused("sequence", sequence, 0, Position::SEQUENCE_MAX));
    }
    Ok(Position { epoch, sequence })
}

/// The filters of a request; one that is named twice is followed once.
pub(crate) fn filters(
    subscriptions: &[v1::Subscription],
    caller: &Caller,
    subscriber: &str,
) -> Result<Vec<TopicFilter>, InvalidRequest> {
    let count = subscriptions.len();
    if !(1..=SUBSCRIPTIONS_MAX).contains(&count) {
        return Err(InvalidRequest::SubscriptionCount(count));
    }
    let mut filters = Vec::with_capacity(count);
    for subscription in subscriptions {
        let filter = own_filter(&subscription.topic_filter, caller, subscriber)?;
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    Ok(filters)
}

/// The subscription of a program of the frozen contract.
pub(crate) fn legacy_plan(
    id: i32,
    caller: &Arc<Caller>,
    compression: Compression,
    config: &Config,
) -> Result<Plan, InvalidRequest> {
    let subscriber: Arc<str> = id.to_string().into();
    let inbox = TopicName::inbox(&subscriber)
        .and_then(|inbox| TopicFilter::parse(inbox.as_str()).ok())
        .into_iter();
    let filters = inbox.chain(config.legacy_topics.iter().cloned());
    let filters = filters.map(|filter| granted(filter, caller));
    Ok(Plan {
        caller: caller.clone(),
        filters: filters.collect::<Result<_, _>>()?,
        subscriber,
        begin: Begin::Next,
        options: ReadOptions {
            gap_policy: GapPolicy::Earliest,
            slow_policy: SlowPolicy::Park,
            message_bytes_max: MESSAGE_BYTES_DEFAULT,
            encoding: Contract::Legacy.dialect().encoding(),
            compression,
        },
        attempt: Attempt {
            instance: 0,
            number: 0,
        },
        contract: Contract::Legacy,
        max_silence: config.max_silence,
    })
}

/// Checks a subscriber id.
pub fn subscriber_id(id: &str) -> Result<Arc<str>, InvalidRequest> {
    let refused = |problem| Err(InvalidRequest::SubscriberId { problem });
    if id.is_empty() {
        return refused("is empty".to_owned());
    }
    if id.len() > SUBSCRIBER_ID_BYTES_MAX {
        return refused(format!("has {} bytes", id.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    match id.chars().find(|&c| !allowed(c)) {
        Some(c) => refused(format!("holds the character {c:?}")),
        None => Ok(id.into()),
    }
}

/// The subscriber of a principal, or of the caller where none is named. That of another is for administrators.
pub(crate) fn subscriber_of(
    principal: &str,
    id: &Arc<str>,
    caller: &Caller,
) -> Result<SubscriberKey, InvalidRequest> {
    if principal.is_empty() || Some(principal) == caller.principal.name() {
        return Ok(caller.subscriber(id));
    }
    if let Err(problem) = caller.may_administer() {
        return Err(InvalidRequest::NotGranted {
            field: "principal",
            value: principal.chars().take(PRINCIPAL_CHARS_SHOWN).collect(),
            problem,
        });
    }
    let principal = match principal {
        "anonymous" => Principal::anonymous(),
        name => Principal::named(name).ok_or(InvalidRequest::Principal)?,
    };
    Ok(SubscriberKey {
        principal,
        id: id.clone(),
    })
}

/// Checks a filter that is added to `count` others.
pub(crate) fn added_filter(
    text: &str,
    caller: &Caller,
    subscriber: &str,
    count: usize,
) -> Result<TopicFilter, InvalidRequest> {
    if count >= SUBSCRIPTIONS_MAX {
        return Err(InvalidRequest::SubscriptionCount(count + 1));
    }
    own_filter(text, caller, subscriber)
}

/// A topic filter.
pub(crate) fn topic_filter(text: &str) -> Result<TopicFilter, InvalidRequest> {
    TopicFilter::parse(text).map_err(|problem| InvalidRequest::Topic {
        field: "topic_filter",
        problem,
    })
}

/// A filter that this subscriber may follow. Where nobody is checked, that is anything but the inboxes of others; otherwise it
/// is what the caller is granted, whatever id the subscriber claims.
pub(crate) fn own_filter(
    text: &str,
    caller: &Caller,
    subscriber: &str,
) -> Result<TopicFilter, InvalidRequest> {
    let filter = topic_filter(text)?;
    if !caller.is_checked() && filter.is_inbox() && !filter.is_inbox_of(subscriber) {
        return Err(InvalidRequest::ForeignInbox {
            filter,
            subscriber: subscriber.to_owned(),
        });
    }
    granted(filter, caller)
}

/// The filter, unless the caller may not follow it.
pub(crate) fn granted(filter: TopicFilter, caller: &Caller) -> Result<TopicFilter, InvalidRequest> {
    match caller.may_subscribe(&filter) {
        Ok(()) => Ok(filter),
        Err(problem) => Err(InvalidRequest::NotGranted {
            field: "topic_filter",
            value: filter.to_string(),
            problem,
        }),
    }
}

fn labels(labels: &BTreeMap<String, String>) -> Result<(), InvalidRequest> {
    if labels.len() > LABELS_MAX {
        return Err(InvalidRequest::LabelCount(labels.len()));
    }
    let longest = labels
        .iter()
        .flat_map(|(name, value)| [name.len(), value.len()])
        .max();
    match longest {
        Some(bytes) if bytes > LABEL_BYTES_MAX => Err(InvalidRequest::LabelLength { bytes }),
        _ => Ok(()),
    }
}

fn begin(start: Option<&v1::Start>) -> Result<Begin, InvalidRequest> {
    let Some(start) = start else {
        return Ok(Begin::Next);
    };
    match start.at.as_ref().ok_or(InvalidRequest::Unset("start.at"))? {
        v1::start::At::Earliest(true) => Ok(Begin::Earliest),
        v1::start::At::Earliest(false) => Ok(Begin::Next),
        v1::start::At::Time(time) => {
            let nanos = (0..1_000_000_000)
                .contains(&time.nanos)
                .then(|| time.seconds.checked_mul(1_000_000_000))
                .flatten()
                .and_then(|nanos| nanos.checked_add(i64::from(time.nanos)))
                .filter(|&nanos| nanos >= 0);
            nanos.map(Begin::Time).ok_or(InvalidRequest::Timestamp)
        }
    }
}

fn gap_policy(value: i32) -> Result<GapPolicy, InvalidRequest> {
    let unknown = InvalidRequest::EnumValue {
        field: "gap_policy",
        value,
    };
    Ok(match v1::GapPolicy::try_from(value).map_err(|_| unknown)? {
        v1::GapPolicy::Unspecified | v1::GapPolicy::Earliest => GapPolicy::Earliest,
        v1::GapPolicy::Latest => GapPolicy::Latest,
        v1::GapPolicy::Fail => GapPolicy::Fail,
    })
}

fn slow_policy(value: i32) -> Result<SlowPolicy, InvalidRequest> {
    let unknown = InvalidRequest::EnumValue {
        field: "slow_policy",
        value,
    };
    Ok(
        match v1::SlowPolicy::try_from(value).map_err(|_| unknown)? {
            v1::SlowPolicy::Unspecified | v1::SlowPolicy::Park => SlowPolicy::Park,
            v1::SlowPolicy::Disconnect => SlowPolicy::Disconnect,
        },
    )
}

/// Checks a message to publish.
pub(crate) fn message(
    request: v1::PublishRequest,
    caller: &Caller,
    event_bytes_max: usize,
) -> Result<Message, InvalidRequest> {
    let message = Message {
        topic: own_topic(&request.topic, caller)?,
        payload: request.payload,
        key: request.key,
        headers: request.headers,
        deleted: request.deleted,
        message_id: request.message_id,
    };
    checked(message, event_bytes_max)
}

/// Checks a topic to publish to: its name, and that the caller may.
pub(crate) fn own_topic(text: &str, caller: &Caller) -> Result<TopicName, InvalidRequest> {
    let topic = TopicName::parse(text).map_err(|problem| InvalidRequest::Topic {
        field: "topic",
        problem,
    })?;
    match caller.may_publish(&topic) {
        Ok(()) => Ok(topic),
        Err(problem) => Err(InvalidRequest::NotGranted {
            field: "topic",
            value: text.to_owned(),
            problem,
        }),
    }
}

/// Checks a message to publish against the limits of an event.
pub(crate) fn checked(message: Message, event_bytes_max: usize) -> Result<Message, InvalidRequest> {
    message.check(event_bytes_max)?;
    Ok(message)
}

/// Checks a filter that the operator gives for subscribers of the frozen contract.
pub fn legacy_topic(text: &str) -> Result<TopicFilter, String> {
    let filter = TopicFilter::parse(text).map_err(|problem| format!("`{text}` {problem}"))?;
    if filter.is_inbox() || filter.tokens().next() == Some(SYS) {
        return Err(format!("`{text}` begins with {INBOX} or {SYS}"));
    }
    Ok(filter)
}
