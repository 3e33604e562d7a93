//! What LDK tells, turned into rows and answers. LDK may tell the same thing again after a crash, so every arm may be
//! repeated; a row is queued before the arm returns, and LDK forgets the event only afterwards.

use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use lightning::events::{Event, PathFailure, PaymentFailureReason, PaymentPurpose, ReplayEvent};
use lightning::ln::channelmanager::PaymentId as LdkPaymentId;
use lightning::ln::types::ChannelId;
use lightning::routing::gossip::NetworkUpdate;
use lightning::routing::router::Path;
use lightning::routing::scoring::ScoreUpdate;
use lightning::types::payment::{PaymentHash as LdkHash, PaymentPreimage};
use node::{ChannelState, NodeError, NodeEvent, PaymentId, PaymentState};
use units::{Msat, PaymentHash, Preimage};

use crate::core::{Core, unix_now};
use crate::holds::{Claimable, Phase, Verdict};
use crate::payments::{failure_words, may_pass};
use crate::store::{ReceivedRow, StoreError};

/// Asked again for the same event after a fault of the store.
type Handled = std::result::Result<(), ReplayEvent>;

impl Core {
    /// Answers one event.
    pub(crate) async fn handle(&self, event: Event) -> Handled {
        let event = match self.handle_money(event) {
            Ok(None) => return Ok(()),
            Ok(Some(event)) => event,
            Err(error) => {
                tracing::error!(%error, "the store cannot be read: LDK's event waits");
                return Err(ReplayEvent());
            }
        };
        let Some(event) = self.handle_score(event) else { return Ok(()) };
        let Some(event) = self.handle_channel(event) else { return Ok(()) };
        match event {
            Event::SpendableOutputs { outputs, channel_id } => {
                let tracked = self.sweeper.track_spendable_outputs(outputs, channel_id, true, None).await;
                tracked.map_err(|()| ReplayEvent())
            }
            Event::BumpTransaction(event) => {
                self.bump(&event).await;
                Ok(())
            }
            other => {
                tracing::debug!(target: "ldk", event = ?std::mem::discriminant(&other), "nothing to do");
                Ok(())
            }
        }
    }

    /// Payments in both directions; gives back what is none.
    fn handle_money(&self, event: Event) -> std::result::Result<Option<Event>, StoreError> {
        match event {
            Event::PaymentClaimable { payment_hash, amount_msat, purpose, claim_deadline, payment_id, .. } => {
                let paid = Claimable { amount: Msat(amount_msat), claim_deadline, claim_id: payment_id.map(|id| id.0) };
                self.on_claimable(payment_hash, &paid, &purpose)?;
            }
            Event::PaymentClaimed { payment_hash, amount_msat, payment_id, .. } => {
                self.on_claimed(PaymentHash(payment_hash.0), Msat(amount_msat), payment_id)?;
            }
            Event::PaymentSent { payment_id, payment_preimage, payment_hash, fee_paid_msat, amount_msat, .. } => {
                let id = payment_id.map_or(PaymentId(payment_hash.0), |id| PaymentId(id.0));
                self.on_sent(id, &payment_preimage, amount_msat, fee_paid_msat)?;
            }
            Event::PaymentFailed { payment_id, payment_hash, reason } => {
                self.on_failed(PaymentId(payment_id.0), payment_hash, reason)?;
            }
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    fn on_claimable(
        &self,
        hash: LdkHash,
        paid: &Claimable,
        purpose: &PaymentPurpose,
    ) -> std::result::Result<(), StoreError> {
        let our_hash = PaymentHash(hash.0);
        let mut ledger = self.ledger.open();
        if let Some(mut row) = ledger.hold(our_hash)? {
            match row.judge(paid, self.now()) {
                Verdict::Accept => {
                    row.accept(paid);
                    ledger.put_hold(row);
                }
                Verdict::Known => {}
                Verdict::Claim => {
                    drop(ledger);
                    self.claim(row.preimage.as_ref());
                }
                Verdict::FailBack(reason) => {
                    tracing::debug!(%our_hash, reason, "failed back");
                    drop(ledger);
                    self.manager.fail_htlc_backwards(&hash);
                }
                Verdict::Replaced => {
                    row.finish(Phase::Canceled);
                    ledger.put_hold(row);
                    drop(ledger);
                    self.manager.fail_htlc_backwards(&hash);
                }
            }
            return Ok(());
        }
        let Some(preimage) = purpose.preimage() else {
            tracing::debug!(%our_hash, "failed back: nobody asked for it");
            drop(ledger);
            self.manager.fail_htlc_backwards(&hash);
            return Ok(());
        };
        // An ordinary invoice or an offer: LDK derived the preimage, so it asked for this.
        if ledger.received(our_hash)?.is_some_and(|row| row.claimed && row.claim_id != paid.claim_id) {
            drop(ledger);
            tracing::debug!(%our_hash, "failed back: paid before");
            self.manager.fail_htlc_backwards(&hash);
            return Ok(());
        }
        ledger.put_received_ahead(ReceivedRow {
            hash: our_hash,
            amount: paid.amount,
            claim_id: paid.claim_id,
            claimed: false,
        });
        drop(ledger);
        self.manager.claim_funds(preimage);
        self.writer.wake();
        Ok(())
    }

    fn on_claimed(
        &self,
        hash: PaymentHash,
        amount: Msat,
        claim_id: Option<LdkPaymentId>,
    ) -> std::result::Result<(), StoreError> {
        let mut ledger = self.ledger.open();
        if let Some(mut row) = ledger.hold(hash)? {
            if row.phase != Phase::Settled {
                row.received = Some(amount);
                row.finish(Phase::Settled);
                ledger.put_hold(row);
            }
        } else {
            ledger.put_received(ReceivedRow { hash, amount, claim_id: claim_id.map(|id| id.0), claimed: true });
        }
        Ok(())
    }

    fn on_sent(
        &self,
        id: PaymentId,
        preimage: &PaymentPreimage,
        amount: Option<u64>,
        fee: Option<u64>,
    ) -> std::result::Result<(), StoreError> {
        let mut ledger = self.ledger.open();
        let Some(mut row) = ledger.payment(id)? else {
            tracing::error!("LDK sent a payment that is not recorded");
            return Ok(());
        };
        let preimage = Preimage::new(preimage.0);
        row.hash = Some(preimage.hash());
        row.amount = amount.map_or(row.amount, Msat);
        row.state = PaymentState::Succeeded { preimage, fee: Msat(fee.unwrap_or(0)) };
        ledger.put_payment(row);
        Ok(())
    }

    fn on_failed(
        &self,
        id: PaymentId,
        hash: Option<LdkHash>,
        reason: Option<PaymentFailureReason>,
    ) -> std::result::Result<(), StoreError> {
        if self.is_under_way(id) {
            // Told again after a restart, of an attempt before the present one.
            return Ok(());
        }
        let mut ledger = self.ledger.open();
        if let Some(mut row) = ledger.payment(id)?
            && row.in_flight()
        {
            let in_time = row.again.as_ref().is_some_and(|again| again.in_time(self.now()));
            if in_time && may_pass(reason) && self.could_send(row.amount) {
                self.retry.notify_one();
                return Ok(());
            }
            row.hash = row.hash.or(hash.map(|hash| PaymentHash(hash.0)));
            row.state = PaymentState::Failed { reason: failure_words(reason) };
            ledger.put_payment(row);
        }
        Ok(())
    }

    /// What the scorer and the graph learn from; gives back what they do not.
    fn handle_score(&self, event: Event) -> Option<Event> {
        let now = Duration::from_secs(unix_now().0);
        let learn = |teach: &dyn Fn(&mut crate::types::Scorer)| {
            teach(&mut self.scorer.write().unwrap_or_else(std::sync::PoisonError::into_inner));
        };
        match event {
            Event::PaymentPathSuccessful { path, .. } => {
                learn(&|scorer| scorer.payment_path_successful(&path, now));
            }
            Event::PaymentPathFailed { path, short_channel_id, failure, payment_failed_permanently, .. } => {
                self.learn_failure(&failure);
                match short_channel_id {
                    Some(scid) => learn(&|scorer| scorer.payment_path_failed(&path, scid, now)),
                    // It reached the payee, who refused it: the way itself is good.
                    None if payment_failed_permanently => learn(&|scorer| scorer.probe_successful(&path, now)),
                    None => {}
                }
            }
            Event::ProbeSuccessful { path, .. } => learn(&|scorer| scorer.probe_successful(&path, now)),
            Event::ProbeFailed { path, short_channel_id: Some(scid), .. } => {
                learn(&|scorer| scorer.probe_failed(&path as &Path, scid, now));
            }
            other => return Some(other),
        }
        None
    }

    fn learn_failure(&self, failure: &PathFailure) {
        // A node is never removed: "expires too far away" from a forwarder that is a few blocks behind reads as the
        // failure of the whole node. The scorer avoids it for a while instead.
        if let PathFailure::OnPath { network_update: Some(update @ NetworkUpdate::ChannelFailure { .. }) } = failure {
            self.graph.handle_network_update(update);
        }
    }

    /// The life of channels; gives back what is none of it.
    fn handle_channel(&self, event: Event) -> Option<Event> {
        match event {
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                user_channel_id,
            } => self.fund(
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                user_channel_id,
            ),
            Event::ChannelPending { channel_id, user_channel_id, .. } => {
                self.opened(user_channel_id, Ok(channel_id));
                self.announce_channel(channel_id, Some(ChannelState::Opening));
            }
            Event::ChannelReady { channel_id, .. } => {
                self.announce_channel(channel_id, Some(ChannelState::Open));
            }
            Event::ChannelClosed { channel_id, user_channel_id, reason, .. } => {
                tracing::info!(channel = %channel_id, %reason, "channel closed");
                self.opened(user_channel_id, Err(NodeError::Rejected(format!("the peer did not open it: {reason}"))));
                self.announce_channel(channel_id, None);
            }
            Event::OpenChannelRequest { temporary_channel_id, counterparty_node_id, funding_satoshis, .. } => {
                self.answer_open(temporary_channel_id, counterparty_node_id, funding_satoshis)
            }
            Event::DiscardFunding { channel_id, funding_info } => self.discard_funding(channel_id, &funding_info),
            other => return Some(other),
        }
        None
    }

    fn answer_open(&self, temporary: ChannelId, peer: PublicKey, funding_sat: u64) {
        let trusted = self.config.inbound.trusted.contains(&peer);
        let answer = match self.judge_inbound(trusted, funding_sat) {
            Ok(()) if trusted => {
                let user_id = self.fresh_user_id();
                self.manager.accept_inbound_channel_from_trusted_peer_0conf(&temporary, &peer, user_id, None)
            }
            Ok(()) => self.manager.accept_inbound_channel(&temporary, &peer, self.fresh_user_id(), None),
            Err(refusal) => {
                tracing::debug!(%peer, refusal, "inbound channel refused");
                self.manager.force_close_broadcasting_latest_txn(&temporary, &peer, refusal)
            }
        };
        if let Err(error) = answer {
            tracing::debug!(?error, "inbound channel not answered");
        }
    }

    fn announce_channel(&self, channel: ChannelId, state: Option<ChannelState>) {
        self.writer.announce(NodeEvent::Channel { id: crate::channels::handle_of(channel), state });
    }
}
