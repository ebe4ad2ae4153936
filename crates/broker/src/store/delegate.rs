//! A store over another one, for tests: it passes each call on that a test does not replace.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use longlived_topic::{TopicFilter, TopicName};

use super::{
    AppendError, Appended, Durability, ElsewhereError, NewMessage, Page, Query, ReadError,
    RecentId, Store, StoreStats, TopicInfo, TopicsExhausted, Trimmed,
};
use crate::{
    frame::{Frames, TopicId},
    position::{Epoch, Sequence},
};

macro_rules! delegate {
    ($($method:ident $(<$life:lifetime>)? (& $($self_life:lifetime)? self $(, $name:ident: $type:ty)*) $(-> $result:ty)?;)+) => {
        /// A store that stands before another: each method of [`Store`] is the other's until it is overridden. A call of
        /// the other's own is `self.inner().append(..)`.
        pub trait Delegate: Send + Sync + 'static {
            /// The store behind it.
            fn inner(&self) -> &dyn Store;

            $(
                #[doc = concat!("[`Store::", stringify!($method), "`]")]
                fn $method $(<$life>)? (& $($self_life)? self $(, $name: $type)*) $(-> $result)? {
                    self.inner().$method($($name),*)
                }
            )+
        }

        impl<D: Delegate> Store for D {
            $(
                fn $method $(<$life>)? (& $($self_life)? self $(, $name: $type)*) $(-> $result)? {
                    Delegate::$method(self $(, $name)*)
                }
            )+
        }
    };
}

delegate! {
    epoch(&self) -> Epoch;
    durability(&self) -> Durability;
    last_sequence(&self) -> Sequence;
    topic_id(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted>;
    append<'a>(&'a self, messages: &'a [NewMessage]) -> BoxFuture<'a, Result<Appended, AppendError>>;
    appended_elsewhere(&self) -> BoxFuture<'static, Result<Arc<Frames>, ElsewhereError>>;
    has_reached(&self, sequence: Sequence) -> BoxFuture<'static, Result<bool, ReadError>>;
    writable(&self) -> Result<(), AppendError>;
    message_key_secret(&self) -> [u64; 2];
    stats(&self) -> Option<StoreStats>;
    recent_ids(&self) -> Vec<RecentId>;
    topics(
        &self,
        filter: TopicFilter,
        after: Option<TopicName>,
        limit: usize
    ) -> BoxFuture<'static, Result<Vec<TopicInfo>, ReadError>>;
    read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>>;
    before_time(&self, unix_nanos: i64) -> BoxFuture<'static, Result<Sequence, ReadError>>;
    publish_time_ahead(&self) -> Duration;
    evict_topics(&self, batch: &[NewMessage]) -> Vec<TopicId>;
    unused_topics(&self) -> Vec<(TopicId, TopicName)>;
    forget_topics(&self, forget: &[TopicId], keep: &[TopicId]);
    trim(&self) -> Trimmed;
}
