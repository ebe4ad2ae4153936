//! The least cost of a fan-out: the publisher's bytes are read and put to each socket with a bare send().
//!
//! Holds: between a read from the publisher and the last send of its bytes nothing is allocated, asked or waited for,
//! but for a socket that is full. The bytes of one read leave in one send per socket, as a good server would merge
//! them. The subscribers of a connection get their records together.
//! Does not: look at a record, nor read from subscribers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use longlived_console::{note, open_files};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SendFlags, listen, send};

use crate::args::{FloorArgs, Topics};
use crate::wire::records::{GREETING, HELLO_BYTES, PUBLISHER};

/// All connections are opened together.
const BACKLOG: i32 = 4096;
/// Without a connection for this long, the process that started this one is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a connected peer may take to send its number.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// The bytes taken in one read, and put to one socket at once.
const BATCH_BYTES: usize = 256 * 1024;

/// `longlived bench floor`: until the publisher is gone.
pub(crate) fn serve(args: &FloorArgs) -> anyhow::Result<()> {
    open_files::raise();
    let listener = TcpListener::bind("127.0.0.1:0").context("listening")?;
    listen(&listener, BACKLOG).context("listening")?;
    set_socket_timeout(&listener, Timeout::Recv, Some(CONNECT_TIMEOUT)).context("listening")?;
    note(format!("listening on {}", listener.local_addr()?));
    let (subscribers, publisher) = accept_all(&listener, args.connections)?;
    Fanout::new(*args, subscribers).run(publisher)
}

/// All subscribers' connections in the order of their numbers, and the publisher's.
fn accept_all(
    listener: &TcpListener,
    connections: u32,
) -> anyhow::Result<(Vec<TcpStream>, TcpStream)> {
    let mut subscribers = Vec::with_capacity(connections as usize);
    loop {
        let (mut socket, _) = listener.accept().context("waiting for connections")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let mut hello = [0; HELLO_BYTES];
        socket
            .read_exact(&mut hello)
            .context("a connection did not say whose it is")?;
        socket.set_read_timeout(None)?;
        match u64::from_le_bytes(hello) {
            PUBLISHER => {
                ensure!(
                    subscribers.len() == connections as usize,
                    "the publisher came before all subscribers"
                );
                subscribers.sort_by_key(|(number, _)| *number);
                let sockets = subscribers.into_iter().map(|(_, socket)| socket);
                return Ok((sockets.collect(), socket));
            }
            number => {
                socket.write_all(&[GREETING])?;
                subscribers.push((number, socket));
            }
        }
    }
}

struct Fanout {
    args: FloorArgs,
    subscribers: Vec<TcpStream>,
    record_bytes: usize,
    /// Records repeated for each subscriber of a connection.
    repeated: Vec<u8>,
    /// Records sent so far, where each goes to one subscriber.
    sent: usize,
}

impl Fanout {
    fn new(args: FloorArgs, subscribers: Vec<TcpStream>) -> Self {
        let record_bytes = args.record_bytes as usize;
        let for_one_message = record_bytes * args.streams as usize;
        Self {
            args,
            subscribers,
            record_bytes,
            repeated: Vec::with_capacity(BATCH_BYTES.max(for_one_message)),
            sent: 0,
        }
    }

    fn run(&mut self, mut publisher: impl Read) -> anyhow::Result<()> {
        let mut batch = vec![0; BATCH_BYTES.max(self.record_bytes)];
        let mut have = 0;
        loop {
            let length = publisher.read(&mut batch[have..]).context("reading")?;
            if length == 0 {
                return Ok(());
            }
            have += length;
            let whole = have / self.record_bytes * self.record_bytes;
            self.send_all(&batch[..whole]).context("sending")?;
            batch.copy_within(whole..have, 0);
            have -= whole;
        }
    }

    fn send_all(&mut self, records: &[u8]) -> std::io::Result<()> {
        match self.args.topics {
            Topics::One if self.args.streams == 1 => self.send_to_each(records),
            Topics::One => {
                // The buffer is taken out for a while, so that nothing is allocated.
                let mut repeated = std::mem::take(&mut self.repeated);
                let streams = self.args.streams as usize;
                for record in records.chunks_exact(self.record_bytes) {
                    for _ in 0..streams {
                        repeated.extend_from_slice(record);
                    }
                    if repeated.len() + record.len() * streams > repeated.capacity() {
                        self.send_to_each(&repeated)?;
                        repeated.clear();
                    }
                }
                self.send_to_each(&repeated)?;
                repeated.clear();
                self.repeated = repeated;
                Ok(())
            }
            Topics::Inbox => self.send_in_turn(records),
        }
    }

    fn send_to_each(&self, bytes: &[u8]) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.subscribers
            .iter()
            .try_for_each(|socket| send_now(socket, bytes))
    }

    /// The publisher's messages go to each subscriber in turn: those of one connection stand side by side.
    fn send_in_turn(&mut self, mut records: &[u8]) -> std::io::Result<()> {
        let streams = self.args.streams as usize;
        while !records.is_empty() {
            let connection = self.sent / streams % self.subscribers.len();
            let left_of_turn = streams - self.sent % streams;
            let bytes = records.len().min(left_of_turn * self.record_bytes);
            let (now, rest) = records.split_at(bytes);
            send_now(&self.subscribers[connection], now)?;
            self.sent += bytes / self.record_bytes;
            records = rest;
        }
        Ok(())
    }
}

/// One send() that does not wait. A socket that is full is waited for, so that nothing is lost.
fn send_now(mut socket: &TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = match send(socket, bytes, flags) {
        Ok(sent) => sent,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
        Err(error) => return Err(error.into()),
    };
    if sent < bytes.len() {
        socket.write_all(&bytes[sent..])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::set_socket_send_buffer_size;

    use super::*;
    use crate::wire::records::record;

    const RECORD_BYTES: u32 = 100;
    /// Several batches of them.
    const RECORDS: u64 = 20_000;

    /// The records that each of two connections is sent of those published, over sockets that a batch does not fit.
    fn received(streams: u32, topics: Topics) -> [Vec<u64>; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut subscribers = Vec::new();
        let reading = [(); 2].map(|()| {
            let reader = TcpStream::connect(address).unwrap();
            let (socket, _) = listener.accept().unwrap();
            set_socket_send_buffer_size(&socket, 4096).unwrap();
            subscribers.push(socket);
            std::thread::spawn(move || stamps(reader))
        });
        let args = FloorArgs {
            connections: 2,
            streams,
            topics,
            record_bytes: RECORD_BYTES,
        };
        let mut published = Vec::new();
        for number in 0..RECORDS {
            record(&mut published, number, RECORD_BYTES as usize);
        }
        // Its end closes the sockets.
        Fanout::new(args, subscribers)
            .run(published.as_slice())
            .unwrap();
        reading.map(|reading| reading.join().unwrap())
    }

    fn stamps(mut reader: TcpStream) -> Vec<u64> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        let records = bytes.chunks(RECORD_BYTES as usize);
        let stamp = |record: &[u8]| u64::from_le_bytes(*record.first_chunk().unwrap());
        records.map(stamp).collect()
    }

    #[test]
    fn every_connection_is_sent_every_record() {
        let all: Vec<_> = (0..RECORDS).collect();
        assert!(received(1, Topics::One) == [all.clone(), all]);
    }

    #[test]
    fn a_connection_is_sent_a_record_for_each_of_its_subscribers() {
        let all: Vec<_> = (0..RECORDS * 3).map(|place| place / 3).collect();
        assert!(received(3, Topics::One) == [all.clone(), all]);
    }

    #[test]
    fn subscribers_with_topics_of_their_own_have_their_turns() {
        let of = |connection| {
            let records = 0..RECORDS;
            let its = records.filter(|number| number / 3 % 2 == connection);
            its.collect::<Vec<_>>()
        };
        assert!(received(3, Topics::Inbox) == [of(0), of(1)]);
    }
}
