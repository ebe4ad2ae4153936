//! One subscriber of the client library: every event is decoded and checked for continuity.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use longlived_client::{Client, Item, Position};
use tokio::runtime::Handle;
use tokio_stream::StreamExt as _;

use super::control::{Done, Plan};
use crate::clock::monotonic_ns;

pub(super) fn read(plan: &Plan) -> anyhow::Result<Done> {
    ensure!(plan.subscribers == 1, "the client library reads alone");
    let client = Client::new(format!("http://{}", plan.server)).context("the server's address")?;
    let mut done = Done {
        began_ns: monotonic_ns(),
        ..Done::default()
    };
    let subscriber = client.subscriber("bench-0").filter(plan.filter(0));
    let subscriber = match plan.resume_after {
        Some((epoch, sequence)) => subscriber.resume_after(Position::new(epoch, sequence)),
        None => subscriber.earliest(),
    };
    let mut subscriber = subscriber.build()?;
    let left = Duration::from_nanos(plan.deadline_ns.saturating_sub(monotonic_ns()));
    let read = async {
        while done.events < plan.events_each {
            match subscriber.next().await {
                Some(Ok(Item::Event(_))) => {
                    if done.events == 0 {
                        done.first_event_ns = monotonic_ns();
                    }
                    done.events += 1;
                }
                Some(Ok(Item::Gap(gap))) => {
                    done.gaps += 1;
                    done.trouble.get_or_insert_with(|| format!("a gap, {gap}"));
                }
                Some(Ok(Item::Violation(violation))) => {
                    done.trouble.get_or_insert_with(|| violation.to_string());
                }
                Some(Ok(Item::Notice(_))) => {
                    if done.welcome_ns == 0 {
                        done.welcome_ns = monotonic_ns();
                    }
                }
                Some(Err(error)) => {
                    done.trouble = Some(error.to_string());
                    return;
                }
                None => return,
            }
        }
        done.complete = 1;
        done.complete_ns = monotonic_ns();
    };
    let ended = Handle::current().block_on(async { tokio::time::timeout(left, read).await });
    if ended.is_err() {
        done.trouble = Some("the time was up".to_owned());
    }
    Ok(done)
}
