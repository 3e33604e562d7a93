//! Buying: who orders a batch, asks its board, has our node pay, and goes on after every restart until the credentials are there.

use std::sync::Arc;
use std::time::Duration;

use credential::quote::{Answer, BATCHES};
use node::{Node, NodeError, PayLimits, Payable, PaymentId, PaymentState, default_fee_limit};
use tokio::task::block_in_place;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use units::{Msat, Sat, Unix, hex32};

use super::batch::{self, Failure, Next};
use super::line::{self, LineError, policy_of};
use super::postage::Postage;
use super::{Batch, BatchName, Purse, PurseError, State};
use crate::clock;
use crate::effects::in_time;
use crate::instance::Other;

/// First and longest rest of a batch for which nothing can be done now: nothing is paid yet, or it is.
const REST_FIRST: Duration = Duration::from_millis(200);
const REST_UNPAID: Duration = Duration::from_secs(15);
const REST_PAID: Duration = Duration::from_secs(300);
/// How often a payment under way is looked at.
const REST_UNDER_WAY: Duration = Duration::from_secs(1);
/// For how long a day's budget counts.
const DAY_SECS: u64 = 24 * 3600;

/// Why a batch is not ordered. Codes are stable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuyError {
    /// The board does not say what it should.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Nothing would be spent there.
    #[error("{0} is none of the boards that this daemon uses: see trader.boards")]
    NotOurs(String),
    /// There are no such batches.
    #[error("a batch has 10, 50, 100 or 250 credentials, so that its size tells nobody apart; not {0}")]
    Count(usize),
    /// The board does not sell so many at once.
    #[error("the board sells at most {0} credentials at once")]
    TooMany(usize),
    /// It does not sell now.
    #[error("the board has no keyset that signs now and that can be paid over Lightning")]
    NotSold,
    /// It costs more than it may.
    #[error("it costs {price} msat, more than the {max} msat that it may cost")]
    TooDear {
        /// What it costs.
        price: Msat,
        /// What it may.
        max: Msat,
    },
    /// One at a time.
    #[error("a batch of that board is under way: `souk credential list`")]
    UnderWay,
    /// Another daemon has our seed.
    #[error("another daemon was started on this seed: this one buys nothing")]
    Superseded,
    /// Nobody can pay.
    #[error("this daemon has no Lightning node to pay with")]
    NoNode,
    /// The purse cannot be written.
    #[error(transparent)]
    Purse(#[from] PurseError),
}

impl BuyError {
    /// Its stable name.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            BuyError::Line(error) => error.code(),
            BuyError::NotOurs(_) => "not-our-board",
            BuyError::Count(_) | BuyError::TooMany(_) => "batch-size",
            BuyError::NotSold => "not-sold",
            BuyError::TooDear { .. } => "too-dear",
            BuyError::UnderWay => "under-way",
            BuyError::Superseded => "superseded",
            BuyError::NoNode => "no-node",
            BuyError::Purse(_) => "fault",
        }
    }
}

/// Buys batches with a Lightning node.
#[derive(Clone)]
pub(crate) struct Buyer {
    purse: Arc<Purse>,
    node: Arc<dyn Node>,
    /// Since when another daemon runs on this seed that was started later.
    other: Other,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// One order at a time.
    counter: Arc<tokio::sync::Mutex<()>>,
}

/// What a look at a batch came to.
enum Turn {
    /// It is in another state.
    Moved,
    /// It is to be looked at again later, for this reason.
    Rests(String),
    /// The payment is under way.
    UnderWay,
    /// The credentials are there, or nothing comes of it.
    Over,
}

impl Buyer {
    /// Goes on with every batch that is not over, on `tasks` until `shutdown`, and buys by itself what something waits for, as long as a
    /// day's batches cost no more than `daily`.
    pub(crate) fn start(
        node: Arc<dyn Node>,
        (purse, postage): (&Arc<Purse>, &Arc<Postage>),
        daily: Sat,
        other: Other,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Buyer {
        let (purse, tasks, shutdown) = (purse.clone(), tasks.clone(), shutdown.clone());
        let buyer = Buyer { purse, node, other, tasks, shutdown, counter: Arc::default() };
        for batch in buyer.purse.under_way() {
            buyer.tasks.spawn(buyer.clone().drive(batch.name()));
        }
        if daily != Sat::ZERO {
            buyer.tasks.spawn(buyer.clone().feed(postage.clone(), daily));
        }
        buyer
    }

    /// Orders a batch that costs at most `max`, and goes on by itself from there.
    pub(crate) async fn buy(&self, board: &str, count: usize, max: Msat) -> Result<Batch, BuyError> {
        if !BATCHES.contains(&count) {
            return Err(BuyError::Count(count));
        }
        let _one_at_a_time = self.counter.lock().await;
        if self.other.borrow().is_some() {
            return Err(BuyError::Superseded);
        }
        if self.purse.under_way().iter().any(|batch| batch.board == board) {
            return Err(BuyError::UnderWay);
        }
        let (policy, _) = policy_of(board).await?;
        if count > policy.batch_max() {
            return Err(BuyError::TooMany(policy.batch_max()));
        }
        let now = clock::unix();
        let keyset = *policy.sells(now).ok_or(BuyError::NotSold)?;
        let price = batch::price(&keyset, count).ok_or(BuyError::NotSold)?;
        if price > max {
            return Err(BuyError::TooDear { price, max });
        }
        let batch = block_in_place(|| self.purse.order((board, policy.board), keyset, count, now))?;
        tracing::info!(%board, count, %price, "a batch of credentials is ordered");
        self.tasks.spawn(self.clone().drive(batch.name()));
        Ok(batch)
    }

    /// Buys what something waits for.
    async fn feed(self, postage: Arc<Postage>, daily: Sat) {
        let mut hungry = postage.hungry();
        loop {
            let boards = hungry.borrow_and_update().clone();
            for board in boards {
                // It is hungry again when it is refused again.
                postage.fed(&board);
                let spent = self.purse.spent_since(Unix(clock::unix().0.saturating_sub(DAY_SECS)));
                let left = Msat(daily.0.saturating_mul(1000).saturating_sub(spent.0));
                let buying = self.buy(&board, BATCHES[0], left);
                match self.shutdown.run_until_cancelled(buying).await {
                    None => return,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => tracing::info!(%board, %error, "no credentials are bought by themselves"),
                }
            }
            let changed = self.shutdown.run_until_cancelled(hungry.changed()).await;
            if !matches!(changed, Some(Ok(()))) {
                return;
            }
        }
    }

    /// Sees a batch through.
    async fn drive(self, name: BatchName) {
        let (mut rest, mut ours) = (REST_FIRST, false);
        while let Some(Some(batch)) = (!self.shutdown.is_cancelled()).then(|| self.purse.batch(name)) {
            let last = if batch.is_paid() { REST_PAID } else { REST_UNPAID };
            let turn = match self.shutdown.run_until_cancelled(self.turn(&batch, &mut ours)).await {
                None | Some(Ok(Turn::Over)) => return,
                Some(turn) => turn,
            };
            match turn {
                Ok(Turn::Moved | Turn::Over) => {
                    rest = REST_FIRST;
                    self.purse.has_trouble(name, None);
                    continue;
                }
                Ok(Turn::UnderWay) => rest = rest.min(REST_UNDER_WAY),
                Ok(Turn::Rests(why)) => {
                    tracing::debug!(board = %batch.board, %why, "a batch of credentials waits");
                    self.purse.has_trouble(name, Some(why));
                }
                Err(error) => {
                    tracing::error!(board = %batch.board, %error, "a batch of credentials waits");
                    self.purse.has_trouble(name, Some(error.to_string()));
                }
            }
            if self.shutdown.run_until_cancelled(sleep(rest)).await.is_none() {
                return;
            }
            rest = (rest * 2).min(last);
        }
    }

    /// Does what is due. `ours`: this process has begun the payment just now, so that the node cannot know of it.
    async fn turn(&self, batch: &Batch, ours: &mut bool) -> Result<Turn, PurseError> {
        let now = clock::unix();
        match block_in_place(|| batch.next(self.purse.master(), now)) {
            Next::Ask(request) => {
                let answer = match self.ask(batch, &request, now).await {
                    Ok(answer) => answer,
                    Err(error) => return Ok(Turn::Rests(error.to_string())),
                };
                self.hear(batch, &answer, now).await
            }
            Next::Begin => {
                let Some(state) = batch.begun() else { return self.moves(batch, batch.failed(&Failure::Expired)) };
                *ours = true;
                self.moves(batch, state)
            }
            Next::Pay { invoice, payment } => {
                if std::mem::take(ours) {
                    return self.pay(batch, invoice, payment).await;
                }
                match in_time(self.node.lookup_payment(payment)).await {
                    Ok(found) => match (batch.paid(&found.state), &found.state) {
                        (Some(_), PaymentState::Failed { reason }) => {
                            self.give_up(batch, &Failure::Payment(reason.clone()), now).await
                        }
                        (Some(state), _) => self.moves(batch, state),
                        (None, _) => Ok(Turn::UnderWay),
                    },
                    Err(NodeError::NotFound(_)) => self.pay_what_was_not_begun(batch, invoice, payment, now).await,
                    Err(error) => Ok(Turn::Rests(error.to_string())),
                }
            }
            Next::GiveUp(failure) => self.give_up(batch, &failure, now).await,
            Next::Done => Ok(Turn::Over),
        }
    }

    /// Nothing comes of it, unless the board was paid and we do not know: a store, or a node, may be older than the payment.
    async fn give_up(&self, batch: &Batch, failure: &Failure, now: Unix) -> Result<Turn, PurseError> {
        match self.ask(batch, &batch.claims(self.purse.master()), now).await {
            Ok(answer @ Answer::Issued { .. }) => self.hear(batch, &answer, now).await,
            Ok(_) | Err(_) => self.moves(batch, batch.failed(failure)),
        }
    }

    /// The record says that the invoice is being paid, and our node has never heard of it: it was not begun, or the node has lost its
    /// memory. The board knows which.
    async fn pay_what_was_not_begun(
        &self,
        batch: &Batch,
        invoice: String,
        payment: PaymentId,
        now: Unix,
    ) -> Result<Turn, PurseError> {
        let answer = self.ask(batch, &batch.claims(self.purse.master()), now).await;
        if let Ok(answer @ Answer::Issued { .. }) = &answer {
            return self.hear(batch, answer, now).await;
        }
        if batch.was_never_paid(now, answer.is_ok()) {
            return self.moves(batch, batch.failed(&Failure::Expired));
        }
        match answer {
            // A board that does not know the order any more is not paid for it.
            Ok(Answer::Unpaid { quote, .. }) if hex32(&quote) == batch.quote && batch.may_pay(now) => {
                self.pay(batch, invoice, payment).await
            }
            Ok(Answer::Refused(reason)) => Ok(Turn::Rests(format!("the board says: {reason}"))),
            Ok(_) => Ok(Turn::Rests("the invoice was not paid".to_owned())),
            Err(error) => Ok(Turn::Rests(error.to_string())),
        }
    }

    async fn pay(&self, batch: &Batch, invoice: String, payment: PaymentId) -> Result<Turn, PurseError> {
        let max_fee = batch.amount().map(default_fee_limit);
        let limits = PayLimits { max_fee, ..PayLimits::default() };
        match in_time(self.node.pay(Payable::Bolt11 { invoice, amount: None }, limits)).await {
            Ok(_) => Ok(Turn::UnderWay),
            Err(NodeError::Rejected(why) | NodeError::Unsupported(why)) => {
                match in_time(self.node.lookup_payment(payment)).await {
                    Err(NodeError::NotFound(_)) => self.give_up(batch, &Failure::Payment(why), clock::unix()).await,
                    Ok(_) | Err(_) => Ok(Turn::UnderWay),
                }
            }
            Err(error) => Ok(Turn::Rests(error.to_string())),
        }
    }

    async fn ask(&self, batch: &Batch, request: &credential::quote::Request, now: Unix) -> Result<Answer, LineError> {
        line::ask(&batch.board, batch.board_key.0, request, &batch.asker(self.purse.master()), now).await
    }

    async fn hear(&self, batch: &Batch, answer: &Answer, now: Unix) -> Result<Turn, PurseError> {
        // What may be paid is what is on the chain of our node.
        let network = match in_time(self.node.info()).await {
            Ok(info) => info.network,
            Err(error) => return Ok(Turn::Rests(error.to_string())),
        };
        match block_in_place(|| batch.hears(self.purse.master(), answer, &network, now)) {
            Some(state) => self.moves(batch, state),
            None => Ok(Turn::Rests(match answer {
                Answer::Refused(reason) => format!("the board says: {reason}"),
                Answer::Unpaid { .. } => "the board has not seen the payment yet".to_owned(),
                Answer::Issued { .. } => "the board answered for another batch".to_owned(),
            })),
        }
    }

    fn moves(&self, batch: &Batch, state: State) -> Result<Turn, PurseError> {
        let moved = block_in_place(|| self.purse.moves(batch.name(), state))?;
        match &moved.state {
            State::Issued { .. } => tracing::info!(board = %moved.board, count = moved.count, "credentials are bought"),
            State::Failed { why, paid: Some(_), .. } => {
                tracing::error!(board = %moved.board, quote = %moved.quote, %why, "ALARM: a batch of credentials is lost");
            }
            State::Failed { why, .. } => {
                tracing::warn!(board = %moved.board, %why, "a batch of credentials is not bought")
            }
            _ => {}
        }
        Ok(Turn::Moved)
    }
}
