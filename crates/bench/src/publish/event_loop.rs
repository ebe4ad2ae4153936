//! The load process of `longlived bench publish`: one thread, one epoll, every connection.
//!
//! Holds: it publishes exactly when told and as much as told, and is silent in between.

use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::epoll::{EventData, EventFlags};
use rustix::time::Timespec;

use super::caller::{Caller, Requests};
use super::control::{Done, Go, Plan};
use crate::clock::monotonic_ns;

const SCRATCH_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// Nothing answered for so long, and the rest is not waited for.
const QUIET_MAX_NS: u64 = 20_000_000_000;
const WAIT_MAX: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

pub(super) struct Load {
    plan: Plan,
    epoll: OwnedFd,
    callers: Vec<Caller>,
    scratch: Vec<u8>,
}

impl Load {
    pub(super) fn connect(plan: Plan) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        let requests = Rc::new(Requests::new(&plan));
        let mut callers = Vec::new();
        for index in 0..plan.connections {
            let caller = Caller::connect(&plan, requests.clone(), index)
                .with_context(|| format!("opening connection {index}"))?;
            // Told once for each change: a caller reads all there is and remembers a full socket.
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            let token = EventData::new_u64(u64::from(index));
            epoll::add(&epoll, caller.socket(), token, flags).context("adding a socket")?;
            callers.push(caller);
        }
        Ok(Self {
            plan,
            epoll,
            callers,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Obeys line by line, until there are no more.
    pub(super) fn run(
        mut self,
        commands: &mut impl BufRead,
        mut reports: impl Write,
    ) -> anyhow::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            if commands.read_line(&mut line).context("reading commands")? == 0 {
                return Ok(());
            }
            let go: Go = serde_json::from_str(&line).context("a line that is not a command")?;
            let done = self.publish(go)?;
            serde_json::to_writer(&mut reports, &done).context("writing a report")?;
            reports.write_all(b"\n")?;
            reports.flush().context("writing a report")?;
        }
    }

    fn publish(&mut self, go: Go) -> anyhow::Result<Done> {
        for (index, caller) in (0..).zip(&mut self.callers) {
            caller.want(self.plan.share(go.messages, index));
        }
        let before = self.answered();
        let began = monotonic_ns();
        let mut heard = began;
        let mut trouble = None;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = monotonic_ns();
            for caller in &mut self.callers {
                if let Err(error) = caller.write(now) {
                    caller.fail(&error);
                }
            }
            if self.callers.iter().all(Caller::is_done) {
                break;
            }
            // No wait while a connection could send.
            let busy = self.callers.iter().any(Caller::has_turn);
            let wait = if busy { Timespec::default() } else { WAIT_MAX };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for sockets"),
            }
            let now = monotonic_ns();
            if !events.is_empty() {
                heard = now;
            }
            for event in &events {
                self.serve(event.data.u64() as usize, event.flags, now);
            }
            trouble = self.callers.iter().find_map(Caller::trouble);
            if trouble.is_some() {
                break;
            }
            if now.saturating_sub(heard) > QUIET_MAX_NS {
                trouble = Some("the server answers no more".to_owned());
                break;
            }
        }
        let mut done = Done {
            answered: self.answered() - before,
            took_ns: monotonic_ns() - began,
            latencies: Vec::new(),
            trouble,
        };
        for caller in &self.callers {
            let latencies = caller.latencies().iter_recorded();
            let latencies = latencies.map(|step| (step.value_iterated_to(), step.count_at_value()));
            done.latencies.extend(latencies);
        }
        Ok(done)
    }

    fn answered(&self) -> u64 {
        self.callers.iter().map(Caller::answered).sum()
    }

    fn serve(&mut self, index: usize, flags: EventFlags, now: u64) {
        let caller = &mut self.callers[index];
        let mut served = Ok(());
        if flags.contains(EventFlags::OUT) {
            served = caller.writable();
        }
        if served.is_ok() && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            served = caller.readable(&mut self.scratch, now);
        }
        if let Err(error) = served {
            caller.fail(&error);
        }
    }
}
