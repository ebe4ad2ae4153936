//! What each end says of each call, and whether both say the same.

use std::sync::{Mutex, MutexGuard};

use super::plan::Run;

/// One end of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// Bytes of content that it sent, at most: a reset takes back what was not written.
    pub(super) sent: usize,
    /// It sent END_STREAM; with trailers.
    pub(super) sent_end: Option<bool>,
    pub(super) received: usize,
    /// It received END_STREAM; with trailers.
    pub(super) received_end: Option<bool>,
    pub(super) sent_reset: Option<u32>,
    pub(super) received_reset: Option<u32>,
}

/// One call.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) client: Side,
    pub(super) server: Side,
    /// The service has seen the request.
    pub(super) served: bool,
    /// The client could not begin, or was told that nothing was done: GOAWAY or REFUSED_STREAM.
    pub(super) refused: bool,
    /// The client has nothing more to do.
    pub(super) done: bool,
}

/// All calls of a run.
pub(super) struct Ledger {
    calls: Mutex<Vec<Call>>,
}

impl Ledger {
    pub(super) fn new(calls: usize) -> Self {
        let calls = Mutex::new(vec![Call::default(); calls]);
        Self { calls }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().expect("nobody panicked with it")
    }

    /// Writes something down.
    pub(super) fn note<T>(&self, call: usize, note: impl FnOnce(&mut Call) -> T) -> T {
        note(&mut self.lock()[call])
    }

    pub(super) fn unfinished(&self) -> String {
        let calls = self.lock();
        let open = calls.iter().enumerate().filter(|(_, call)| !call.done);
        format!("{:#?}", open.collect::<Vec<_>>())
    }

    /// At the end of a run.
    pub(super) fn agrees(&self, run: &Run) {
        for (n, call) in self.lock().iter().enumerate() {
            let plan = run.plan(n);
            let told = || format!("call {n}: {call:#?}\n{plan:#?}\n{run:#?}");
            assert!(call.done, "{}", told());
            if call.refused {
                assert!(!call.served, "refused and served: {}", told());
                continue;
            }
            if !call.served {
                // The client gave it up before it was sent.
                assert!(call.client.sent_reset.is_some(), "lost: {}", told());
                continue;
            }
            for (from, to) in [(&call.client, &call.server), (&call.server, &call.client)] {
                agree(from, to).unwrap_or_else(|wrong| panic!("{wrong}: {}", told()));
            }
            let (client, server) = (&call.client, &call.server);
            if run.calm {
                // Nobody resets but for a response that was complete early.
                let resets = [
                    client.sent_reset,
                    client.received_reset,
                    server.received_reset,
                ];
                assert!(resets.iter().flatten().all(|code| *code == 0), "{}", told());
                assert!(client.received_end.is_some(), "{}", told());
                let early = server.sent_reset == Some(0);
                assert!(early || server.received_end.is_some(), "{}", told());
            }
        }
    }
}

/// One direction of a call.
fn agree(from: &Side, to: &Side) -> Result<(), &'static str> {
    if to.received > from.sent {
        return Err("more came than was sent");
    }
    match (from.sent_end, to.received_end) {
        (Some(sent), Some(received)) if sent != received => return Err("trailers for no trailers"),
        (Some(_), Some(_)) if from.sent != to.received => return Err("less came than was sent"),
        (None, Some(_)) => return Err("an end that nobody sent"),
        (Some(_), None) if !is_cut(from, to) => return Err("the end did not come"),
        _ => {}
    }
    match (from.sent_reset, to.received_reset) {
        (Some(sent), Some(received)) if sent != received => Err("a reset with another code"),
        (None, Some(_)) => Err("a reset that nobody sent"),
        // Both reset, or the stream was over for the other when the reset came.
        (Some(_), None)
            if to.sent_reset.is_none()
                && (to.received_end.is_none()
                    || to.sent_end.is_none() && from.sent_end.is_none()) =>
        {
            Err("the reset did not come")
        }
        _ => Ok(()),
    }
}

/// Either end has reset the stream.
fn is_cut(from: &Side, to: &Side) -> bool {
    from.sent_reset.is_some() || to.sent_reset.is_some()
}
