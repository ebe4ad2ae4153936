use std::io::{BufRead as _, BufReader, PipeReader, Read as _};

use proptest::prelude::*;

use super::writer::Target;
use super::*;

const BYTES_MAX: usize = 64 << 10;

fn notice(lines: u64) -> String {
    format!("dropped {lines}\n")
}

fn pipe(failing: Failing) -> (Sink, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let sink = Sink::start(writer, BYTES_MAX, failing, notice).unwrap();
    (sink, reader)
}

/// Reads `count` lines.
fn read(reader: &mut BufReader<PipeReader>, count: usize) -> Vec<String> {
    let lines = reader.lines().take(count).map(Result::unwrap);
    lines.collect()
}

#[test]
fn lines_that_do_not_fit_are_counted_and_told_in_their_place() {
    let (sink, reader) = pipe(Failing::GoesOn);
    let mut number = 0;
    // More than the pipe, the writer and the queue hold.
    while sink.dropped() < 10 {
        number += 1;
        sink.offer(format!("line {number} {}\n", "x".repeat(100)).as_bytes());
    }
    let mut reader = BufReader::new(reader);
    let (mut seen, mut told) = (0, 0);
    while told < sink.dropped() {
        let line = &read(&mut reader, 1)[0];
        if let Some(lines) = line.strip_prefix("dropped ") {
            told += lines.parse::<u64>().unwrap();
        } else {
            seen += 1;
            assert!(
                line.starts_with(&format!("line {} ", seen + told)),
                "{line}"
            );
        }
    }
    assert_eq!(seen + told, number);
    sink.offer(b"after\n");
    assert_eq!(read(&mut reader, 1), ["after"]);
}

#[test]
fn a_flush_waits_for_a_reader_and_not_for_one_that_does_not_read() {
    let (sink, reader) = pipe(Failing::GoesOn);
    sink.offer(b"last words\n");
    sink.flush();
    assert_eq!(sink.written(), 1);
    while sink.dropped() == 0 {
        sink.offer(&[b'\n'; 1000]);
    }
    sink.flush();
    // The writer has been stuck for so long now that nothing more is to be hoped for.
    let since = Instant::now();
    for _ in 0..100 {
        sink.flush();
    }
    // Each of them would have waited as long as the first, on any machine.
    assert!(since.elapsed() < 50 * FLUSH_MAX, "{:?}", since.elapsed());
    drop(reader);
}

#[tokio::test]
async fn a_caller_that_puts_waits_for_space_and_knows_to_the_line_how_much_was_written() {
    let (sink, reader) = pipe(Failing::Ends);
    let line = format!("{}\n", "x".repeat(999));
    let mut put = 0;
    while let Ok(number) =
        tokio::time::timeout(Duration::from_millis(300), sink.put(line.as_bytes())).await
    {
        put += 1;
        assert_eq!(number.unwrap(), put);
    }
    let written = sink.written();
    assert!(0 < written && written < put, "{written} of {put}");
    sink.stop();
    let mut reader = BufReader::new(reader);
    assert_eq!(read(&mut reader, written as usize).len() as u64, written);
    drop(sink);
}

#[tokio::test]
async fn a_reader_that_has_gone_is_told_apart_from_a_full_disk() {
    let (sink, reader) = pipe(Failing::Ends);
    drop(reader);
    sink.put(b"x\n").await.unwrap();
    assert!(sink.settled().await.unwrap_err().reader_has_gone());
    assert!(sink.gone().await.reader_has_gone());
    assert!(sink.put(b"x\n").await.is_err());
    assert_eq!(sink.written(), 0);

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let sink = Sink::start(full.unwrap(), BYTES_MAX, Failing::Ends, notice).unwrap();
    sink.put(b"x\n").await.unwrap();
    let error = sink.settled().await.unwrap_err();
    assert!(!error.reader_has_gone());
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[tokio::test]
async fn a_descriptor_that_another_process_made_non_blocking_is_waited_for() {
    let (mut reader, writer) = io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let sink = Sink::start(writer, BYTES_MAX, Failing::Ends, notice).unwrap();
    let text = vec![b'\n'; BYTES_MAX];
    for _ in 0..2 {
        sink.put(&text).await.unwrap();
    }
    let mut all = vec![0; 2 * BYTES_MAX];
    tokio::task::spawn_blocking(move || reader.read_exact(&mut all))
        .await
        .unwrap()
        .unwrap();
    sink.settled().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For any lines, and a disk that is full at any place: each line is whole or counted, in its order, and a torn one
    /// stands alone.
    #[test]
    fn a_disk_that_fills_up_and_empties_loses_only_counted_lines(
        lengths in prop::collection::vec(0_usize..9000, 1..60),
        room in 0_usize..100_000,
    ) {
        let disk = Disk::new(room);
        let sink = Sink::start(disk.clone(), usize::MAX, Failing::GoesOn, notice).unwrap();
        let line = |number: usize| format!("{number}:{}\n", "x".repeat(lengths[number]));
        for number in 0..lengths.len() {
            sink.offer(line(number).as_bytes());
            if number % 7 == 0 {
                sink.flush();
            }
        }
        sink.flush();
        disk.make_room();
        sink.offer(b"end\n");
        sink.flush();
        let text = disk.text();
        let mut whole = 0;
        let mut told = 0;
        let mut torn = 0;
        let mut last = None;
        for shown in text.lines() {
            if let Some(lines) = shown.strip_prefix("dropped ") {
                told += lines.parse::<u64>().unwrap();
            } else if shown != "end" {
                let number: Option<usize> = shown.split(':').next().and_then(|number| number.parse().ok());
                match number.filter(|&number| number < lengths.len() && line(number).trim_end() == shown) {
                    Some(number) => {
                        prop_assert!(last < Some(number), "{number} after {last:?}");
                        last = Some(number);
                        whole += 1;
                    }
                    None => torn += 1,
                }
            }
        }
        prop_assert_eq!(text.lines().last(), Some("end"));
        prop_assert!(torn <= 1);
        prop_assert_eq!(told, sink.dropped());
        prop_assert_eq!(whole + told, lengths.len() as u64);
    }
}

/// A disk with this number of free bytes.
#[derive(Clone)]
struct Disk {
    inner: Arc<Mutex<(Vec<u8>, usize)>>,
}

impl Disk {
    fn new(room: usize) -> Self {
        Self {
            inner: Arc::new(Mutex::new((Vec::new(), room))),
        }
    }

    fn make_room(&self) {
        self.inner.lock().1 = usize::MAX;
    }

    fn text(&self) -> String {
        String::from_utf8(self.inner.lock().0.clone()).unwrap()
    }
}

impl Target for Disk {
    fn ready(&self) {}

    fn write(&self, piece: &[u8]) -> rustix::io::Result<usize> {
        let (text, room) = &mut *self.inner.lock();
        let written = piece.len().min(*room);
        if written == 0 {
            return Err(rustix::io::Errno::NOSPC);
        }
        *room -= written;
        text.extend_from_slice(&piece[..written]);
        Ok(written)
    }
}
