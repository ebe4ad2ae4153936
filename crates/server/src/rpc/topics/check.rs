//! `CheckPosition`: a resumption in trial. It is begun and read ahead until the first gap, the end of the log, or as far as one
//! call may read.

use longlived_api::v1::{self, check_position_response::State};
use longlived_broker::{Begin, Delivery, Gap, GapReason, Sequence};
use tonic::Status;

use super::{Reader, end_of_log, subscriber};
use crate::{
    contract::{Caller, InvalidRequest, validate, wire},
    node::Node,
};

/// Deliveries that one call reads ahead; each is up to 64 KiB of events.
const DELIVERIES_MAX: usize = 64;

pub(super) async fn check(
    node: &Node,
    caller: &Caller,
    request: &v1::CheckPositionRequest,
) -> Result<v1::CheckPositionResponse, Status> {
    let subscriber = subscriber(&request.subscriber_id)?;
    let filters = validate::filters(&request.subscriptions, caller, &subscriber)?;
    let position = (request.position.as_ref()).ok_or(InvalidRequest::Unset("position"))?;
    let position = validate::position("position", position)?;
    let earliest = Reader::open(node, &filters, Begin::Earliest).await?;
    // As for a subscriber: the live tails may have events that history has let go.
    let (gap, checked) = if node.log.tails_reach(&filters, position) {
        (None, end_of_log(node))
    } else {
        let mut reader = Reader::open(node, &filters, Begin::After(position)).await?;
        let gap = first_gap(&mut reader, position.sequence).await?;
        (gap, reader.position())
    };
    let state = match gap.map(|gap| gap.reason) {
        None => State::Resumable,
        Some(GapReason::EpochChanged) => State::EpochChanged,
        Some(GapReason::Future) => State::Future,
        Some(GapReason::Trimmed | GapReason::Damaged | GapReason::TooLarge) => State::Missing,
    };
    Ok(v1::CheckPositionResponse {
        state: state.into(),
        gap: gap.map(|gap| wire::gap_message(&gap)),
        earliest: Some(wire::position(earliest.position())),
        checked: Some(wire::position(checked)),
        head: Some(wire::position(end_of_log(node))),
    })
}

/// The first gap that a subscriber would get if it resumed after `asked`.
async fn first_gap(reader: &mut Reader, asked: Sequence) -> Result<Option<Gap>, Status> {
    for _ in 0..DELIVERIES_MAX {
        match reader.next().await? {
            // It is kept: an event that calls of history do not carry still comes on a subscription.
            Delivery::Gap(gap) if gap.reason == GapReason::TooLarge => {}
            Delivery::Gap(gap) => return Ok(Some(gap)),
            Delivery::Events { .. } | Delivery::Scanned => {}
            Delivery::Current => break,
        }
    }
    // Not met yet, but known: retention forgets no removal. GAP_POLICY_FAIL refuses for the same.
    let gone = reader.opened.gone_through;
    let met = reader.position().sequence;
    Ok((gone > asked).then_some(Gap {
        reason: GapReason::Trimmed,
        after: if met < gone { met } else { asked },
        through: gone,
        events: 0,
        through_epoch: None,
    }))
}
