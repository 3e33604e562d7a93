//! Where credentials are sold: answers orders (kind 23250) with invoices, paid ones with signatures, and publishes what is on sale.
//!
//! What was ordered is written down before its invoice leaves. Whether it was paid is asked of the node whenever the signatures are
//! asked for, so nothing is missed while the board is away; signing again gives the same bytes, so an answer that was lost is given again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use board::operator::Operator;
use board::store::Encoded;
use credential::quote::{Answer, KIND_ANSWER, KIND_POLICY, KIND_REQUEST, Order, Request};
use node::{Description, InvoiceRequest, Node, NodeError};
use secp256k1::schnorr::Signature;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use units::{Msat, PaymentHash, Unix, hex32};
use wire::nip44::ConversationKey;

use super::{Epoch, Issuer, IssuerError};
use crate::effects::in_time;
use crate::post::{self, PostError};

/// Requests that wait. More are missed, and asked again by whoever waits for an answer.
pub(crate) const REQUESTS_MAX: usize = 64;
/// How long an invoice can be paid.
const PAYABLE_SECS: u32 = 900;
/// Orders that wait for payment at the same time, some 20 KiB each, and for how long after its invoice expired one is remembered: the
/// node takes no payment any more then.
const OPEN_MAX: usize = 5000;
const KEPT_SECS: u64 = 600;
/// How often epochs, prices and old orders are looked after.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const QUOTES: &str = "quote/";

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("not for us, or not readable")]
    Unreadable,
    #[error(transparent)]
    Seal(#[from] PostError),
    #[error("the board does not pass it on: {0}")]
    Board(String),
}

impl From<crate::store::StoreError> for Trouble {
    fn from(error: crate::store::StoreError) -> Trouble {
        Trouble::Issuer(error.into())
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Trouble {
        Trouble::Issuer(error.into())
    }
}

/// What was ordered, and the invoice for it.
#[derive(Clone, Serialize, Deserialize)]
struct Quote {
    keyset: String,
    /// [`Request::Quote`] as it came: its points are only read when they are signed.
    order: String,
    amount: Msat,
    invoice: String,
    hash: PaymentHash,
    expiry: Unix,
    /// When its signatures were first given out.
    issued: Option<Unix>,
}

/// Sells credentials of a board that runs.
pub(crate) struct Till {
    issuer: Arc<Issuer>,
    operator: Operator,
    node: Arc<dyn Node>,
    requests: mpsc::Receiver<Arc<Encoded>>,
    /// Orders that nobody has paid yet, and until when they can be.
    open: BTreeMap<[u8; 32], Unix>,
    /// What kind 13250 says.
    published: Option<(Unix, Vec<Vec<String>>)>,
}

impl Till {
    pub(crate) fn open(
        issuer: Arc<Issuer>,
        operator: Operator,
        node: Arc<dyn Node>,
        requests: mpsc::Receiver<Arc<Encoded>>,
    ) -> Result<Till, IssuerError> {
        let open = open_orders(&issuer)?;
        Ok(Till { issuer, operator, node, requests, open, published: None })
    }

    /// Sells until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => if let Err(error) = self.look_after().await {
                    tracing::error!(%error, "credentials on sale cannot be looked after");
                },
                request = self.requests.recv() => {
                    let Some(request) = request else { return };
                    match self.serve(&request).await {
                        Ok(()) => {}
                        Err(Trouble::Unreadable) => tracing::debug!("a request for credentials that nobody can read"),
                        Err(error) => tracing::warn!(%error, "a request for credentials is not answered"),
                    }
                }
            }
        }
    }

    async fn look_after(&mut self) -> Result<(), Trouble> {
        if block_in_place(|| self.issuer.renew())? {
            self.open = block_in_place(|| open_orders(&self.issuer))?;
        }
        self.publish().await?;
        self.forget_unpaid().await
    }

    /// Says in kind 13250 what is on sale and what it is needed for, when that has changed.
    async fn publish(&mut self) -> Result<(), Trouble> {
        let tags = self.issuer.on_offer(&self.operator.policy());
        if self.published.as_ref().is_some_and(|(_, said)| *said == tags) {
            return Ok(());
        }
        let now = (self.issuer.clock)();
        let created_at = self.published.as_ref().map_or(now, |(at, _)| now.max(Unix(at.0 + 1)));
        self.say(KIND_POLICY, created_at, tags.clone(), String::new()).await?;
        self.published = Some((created_at, tags));
        Ok(())
    }

    /// Forgets orders that nobody paid in time.
    async fn forget_unpaid(&mut self) -> Result<(), Trouble> {
        let now = (self.issuer.clock)();
        let due: Vec<_> =
            self.open.iter().filter(|(_, until)| until.0 + KEPT_SECS <= now.0).map(|(id, _)| *id).collect();
        for id in due {
            let Some(quote) = self.quote(&id)? else { continue };
            if self.received(&quote).await? == Msat::ZERO {
                self.issuer.store.remove(&name(&id))?;
                self.open.remove(&id);
            }
        }
        Ok(())
    }

    /// Answers one request.
    async fn serve(&mut self, request: &Encoded) -> Result<(), Trouble> {
        let shared = ConversationKey::between(&self.issuer.key, &request.pubkey).map_err(|_| Trouble::Unreadable)?;
        let asked = read(request, &shared, &self.issuer.pubkey()).ok_or(Trouble::Unreadable)?;
        let answer = match asked {
            Request::Quote(order) => self.sell(order).await?,
            Request::Issue { quote, claim } => self.hand_out(quote, &claim).await?,
        };
        let text = serde_json::to_string(&answer)?;
        let sealed = shared.encrypt(&text, &post::entropy()?).map_err(|_| Trouble::Unreadable)?;
        let tags = vec![vec!["p".into(), hex32(&request.pubkey)], vec!["e".into(), hex32(&request.id)]];
        self.say(KIND_ANSWER, (self.issuer.clock)(), tags, sealed).await
    }

    /// An invoice for what is ordered; the same one when it is ordered again.
    async fn sell(&mut self, order: Order) -> Result<Answer, Trouble> {
        let id = order.quote();
        if let Some(known) = self.quote(&id)? {
            return Ok(self.unpaid(id, &order, &known));
        }
        let now = (self.issuer.clock)();
        let Some(Epoch { keyset, .. }) = self.issuer.on_sale().filter(|epoch| epoch.keyset.id == order.keyset) else {
            return Ok(Answer::Refused("this keyset is not on sale; kind 13250 names the one that is".into()));
        };
        if self.open.values().filter(|until| **until > now).count() >= OPEN_MAX {
            return Ok(Answer::Refused("too many orders wait for payment; try again in some minutes".into()));
        }
        let Some(amount) = order.amount(&keyset) else {
            return Ok(Answer::Refused("that is more than any payment".into()));
        };
        let expiry = Unix(now.0 + u64::from(PAYABLE_SECS));
        let description = Description::Hash(order.commitment(&self.issuer.pubkey(), amount, expiry));
        let wanted = InvoiceRequest { amount: Some(amount), description, expiry_secs: PAYABLE_SECS };
        let invoice = in_time(self.node.create_invoice(wanted)).await?;
        let facts = wire::invoice::parse_invoice(&invoice).map_err(|why| NodeError::Fault(why.to_string()))?;
        let (keyset, hash) = (order.keyset.to_string(), facts.hash);
        let asked = serde_json::to_string(&Request::Quote(order.clone()))?;
        let quote = Quote { keyset, order: asked, amount, invoice, hash, expiry, issued: None };
        self.write(&id, &quote)?;
        self.open.insert(id, expiry);
        Ok(self.unpaid(id, &order, &quote))
    }

    /// The signatures of an order, when it is paid and asked for by who ordered.
    async fn hand_out(&mut self, id: [u8; 32], claim: &Signature) -> Result<Answer, Trouble> {
        let Some(mut quote) = self.quote(&id)? else {
            return Ok(Answer::Refused("nothing was ordered under this name, or it was not paid in time".into()));
        };
        let Request::Quote(order) = serde_json::from_str(&quote.order)? else { return Err(Trouble::Unreadable) };
        if !order.is_claimed_by(claim) {
            return Ok(Answer::Refused("signed by another key than ordered".into()));
        }
        let Some(epoch) = self.issuer.find(order.keyset) else {
            return Ok(Answer::Refused("this keyset is over".into()));
        };
        if self.received(&quote).await? < quote.amount {
            return Ok(self.unpaid(id, &order, &quote));
        }
        if quote.issued.is_none() {
            quote.issued = Some((self.issuer.clock)());
            self.write(&id, &quote)?;
            self.open.remove(&id);
        }
        let signatures = block_in_place(|| order.outputs.iter().map(|output| epoch.secret.sign(output)).collect());
        Ok(Answer::Issued { quote: id, signatures })
    }

    fn unpaid(&self, id: [u8; 32], order: &Order, quote: &Quote) -> Answer {
        let commitment = order.commitment(&self.issuer.pubkey(), quote.amount, quote.expiry);
        Answer::Unpaid { quote: id, invoice: quote.invoice.clone(), commitment, expiry: quote.expiry }
    }

    async fn received(&self, quote: &Quote) -> Result<Msat, Trouble> {
        match in_time(self.node.lookup_received(quote.hash)).await {
            Err(NodeError::NotFound(_)) => Ok(Msat::ZERO),
            received => Ok(received?),
        }
    }

    fn quote(&self, id: &[u8; 32]) -> Result<Option<Quote>, Trouble> {
        let bytes = block_in_place(|| self.issuer.store.get(&name(id)))?;
        Ok(bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    fn write(&self, id: &[u8; 32], quote: &Quote) -> Result<(), Trouble> {
        let bytes = serde_json::to_vec(quote)?;
        Ok(block_in_place(|| self.issuer.store.put(&name(id), &bytes))?)
    }

    async fn say(&self, kind: u16, created_at: Unix, tags: Vec<Vec<String>>, content: String) -> Result<(), Trouble> {
        let event = self.issuer.signs(kind, created_at, tags, content)?;
        let said = self.operator.say(&event).await.map_err(|error| Trouble::Board(error.to_string()))?;
        match said {
            board::store::Outcome::Failed(why) => Err(Trouble::Board(why)),
            _ => Ok(()),
        }
    }
}

/// Orders that nobody has paid yet, and until when they can be. Forgets what was bought of keysets that are over.
fn open_orders(issuer: &Issuer) -> Result<BTreeMap<[u8; 32], Unix>, IssuerError> {
    let mut open = BTreeMap::new();
    for (name, quote) in issuer.store.list(QUOTES)? {
        let quote: Quote = serde_json::from_slice(&quote)?;
        if quote.keyset.parse().is_ok_and(|keyset| issuer.find(keyset).is_none()) {
            issuer.store.remove(&name)?;
        } else if let (None, Ok(id)) = (quote.issued, wire::parse_hex(&name[QUOTES.len()..], "quote")) {
            open.insert(id, quote.expiry);
        }
    }
    Ok(open)
}

fn name(id: &[u8; 32]) -> String {
    format!("{QUOTES}{}", hex32(id))
}

/// What is asked of `board` in a request that is addressed to it.
fn read(request: &Encoded, shared: &ConversationKey, board: &[u8; 32]) -> Option<Request> {
    let raw = request.raw().ok().filter(|raw| raw.kind == KIND_REQUEST)?;
    let ours = raw.indexed_tags().any(|(letter, value)| letter == b'p' && value == hex32(board).as_str());
    let text = shared.decrypt(&raw.content().decode()).ok().filter(|_| ours)?;
    serde_json::from_str(&text).ok()
}
