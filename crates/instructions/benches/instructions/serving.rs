//! The scenarios through the server: calls, sessions, HTTP/2 and its flow control.
//!
//! Does not: count the kernel, or the log line of a subscription that begins. Where each delivery is a write, the
//! kernel costs more than all of this.

use longlived_api::v1::Position;

use crate::client::{Client, Reader};
use crate::world::{TOKEN, World, store_with};
use crate::{EVENTS, MESSAGES, RESUMPTIONS, SUBSCRIBERS};

/// Messages that are published before counting begins.
const WARM_UP: usize = 5;
/// Resumptions before counting begins.
const WARM_UP_RESUMPTIONS: usize = 20;
/// Events that each resumption has missed.
const MISSED: usize = 1;

/// One message after the other to all subscribers, which share this number of connections.
pub(crate) fn publish(connections: usize) -> usize {
    let mut world = World::new(|environment| store_with(0, environment));
    let mut publisher = world.connect();
    let mut subscribers: Vec<Client> = (0..connections).map(|_| world.connect()).collect();
    world.settle();
    let mut readers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let client = &mut subscribers[number % connections];
        readers.push(world.client(async { client.subscribe(number, None) }));
    }
    world.settle();
    assert!(readers.iter().all(|reader| reader.told().welcomes == 1));
    for _ in 0..WARM_UP {
        publish_one(&world, &mut publisher);
        world.settle();
    }
    let before = delivered(&readers);
    assert_eq!(before, WARM_UP * SUBSCRIBERS);
    for _ in 0..MESSAGES {
        let answer = publish_one(&world, &mut publisher);
        world.settle_counted();
        assert_eq!(answer.told().answers, 1);
    }
    let counted = delivered(&readers) - before;
    assert_eq!(counted, MESSAGES * SUBSCRIBERS);
    counted
}

fn publish_one(world: &World, publisher: &mut Client) -> Reader {
    world.client(async { publisher.publish() })
}

fn delivered(readers: &[Reader]) -> usize {
    readers.iter().map(|reader| reader.told().events).sum()
}

/// One subscriber that reads everything that is kept.
pub(crate) fn catch_up() -> usize {
    let mut world = World::new(|environment| store_with(EVENTS, environment));
    let mut client = world.connect();
    // A current subscriber. The epoch of the history is taken from its Welcome.
    let epoch = epoch(&mut world, &mut client);
    let from_the_beginning = Position { epoch, sequence: 0 };
    let reader = world.client(async { client.subscribe(1, Some(from_the_beginning)) });
    world.settle_counted();
    let events = reader.told().events;
    assert_eq!(events, EVENTS);
    events
}

fn epoch(world: &mut World, client: &mut Client) -> u64 {
    let current = world.client(async { client.subscribe(0, None) });
    world.settle();
    assert_eq!(current.told().welcomes, 1);
    current.told().epoch
}

/// One subscriber after the other comes back on an open connection, and gets the events that it missed.
pub(crate) fn resume() -> usize {
    let world = World::new(|environment| store_with(0, environment));
    let client = world.connect();
    resume_in(world, client)
}

/// The same of callers with a token that the server knows.
pub(crate) fn resume_by_token() -> usize {
    let world = World::checked(|environment| store_with(0, environment));
    let client = world.connect().with_token(TOKEN);
    resume_in(world, client)
}

fn resume_in(mut world: World, mut client: Client) -> usize {
    let after = missed(&mut world, &mut client);
    for number in 1..=WARM_UP_RESUMPTIONS + RESUMPTIONS {
        let reader = world.client(async { client.subscribe(number, Some(after)) });
        if number <= WARM_UP_RESUMPTIONS {
            world.settle();
        } else {
            world.settle_counted();
        }
        check_resumed(&reader);
    }
    RESUMPTIONS
}

/// The same, each on a connection of its own.
pub(crate) fn connect_and_resume() -> usize {
    let mut world = World::new(|environment| store_with(0, environment));
    let mut first = world.connect();
    let after = missed(&mut world, &mut first);
    let mut clients = Vec::new();
    for number in 1..=WARM_UP_RESUMPTIONS + RESUMPTIONS {
        let mut client = world.connect();
        let reader = world.client(async { client.subscribe(number, Some(after)) });
        if number <= WARM_UP_RESUMPTIONS {
            world.settle();
        } else {
            world.settle_counted();
        }
        check_resumed(&reader);
        clients.push(client);
    }
    RESUMPTIONS
}

/// A live tail with one reader, and the position before its last events.
fn missed(world: &mut World, client: &mut Client) -> Position {
    let epoch = epoch(world, client);
    let mut last = 0;
    for _ in 0..=WARM_UP {
        let answer = publish_one(world, client);
        world.settle();
        last = answer.told().sequence;
    }
    let sequence = last - MISSED as u64;
    Position { epoch, sequence }
}

fn check_resumed(reader: &Reader) {
    let told = reader.told();
    assert_eq!((told.welcomes, told.events), (1, MISSED), "{told:?}");
}
