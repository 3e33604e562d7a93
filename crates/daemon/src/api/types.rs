//! What travels over the local API. Field names are stable: scripts rely on them.

use ::node::{ChannelId, NodeInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trade::{BondFate, EscrowTerms, FiatBid, FiatTerms, MessageId, PartyKey, ReceiptStatus, TradeId};
use units::{Height, PaymentHash, Sat, Unix};

use crate::restore::RestoreReport;

/// What kind of error; the program's exit code follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong.
    Usage,
    /// No token, or none that is good (over TCP only).
    Unauthorized,
    /// The token does not allow it (over TCP only).
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// Understood and refused.
    Refused,
    /// A node or board cannot be reached: try again.
    Unreachable,
    /// Something of ours is broken.
    Fault,
}

/// The body of every answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What kind.
    pub kind: ErrorKind,
    /// Stable name of the rule that refused, such as `invoice-amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What happened, why, and what to do.
    pub message: String,
}

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Roles that are on.
    pub roles: Vec<String>,
    /// The Lightning node; none for a bare board.
    pub node: Option<NodeInfo>,
    /// The key that reputation attaches to; none for a bare board.
    pub identity: Option<PartyKey>,
    /// Where the own board listens, when it runs.
    pub board: Option<String>,
    /// Boards that are read.
    pub boards: Vec<String>,
    /// Trades that have not ended.
    pub open_trades: usize,
    /// How each board stands, and what it is still owed.
    pub backlog: Vec<BacklogView>,
    /// Trades and listings whose log is damaged: they are stopped until somebody looks at them.
    pub damaged: Vec<TradeId>,
    /// What the last restore found, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoreReport>,
    /// Another daemon was started on this seed, at this time: this one moves no trade any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Unix>,
}

/// What one board is owed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BacklogView {
    /// The board.
    pub board: String,
    /// It is connected.
    pub connected: bool,
    /// Events that it has not confirmed yet.
    pub waiting: u64,
    /// What it said when it refused one of them.
    pub trouble: Option<String>,
}

/// `POST /v1/board/disconnect`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhomRequest {
    /// The number of a client, an address, or `all`.
    pub whom: String,
}

/// `POST /v1/board/notice`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoticeRequest {
    /// The number of a client, an address, or `all`.
    pub whom: String,
    /// What to say.
    pub text: String,
}

/// Answer to [`WhomRequest`] and [`NoticeRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reached {
    /// How many clients it concerned.
    pub clients: u64,
}

/// Answer of `GET /v1/board/policy`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReply {
    /// The policy as it was written.
    #[schemars(with = "serde_json::Value")]
    pub policy: board::admission::Policy,
    /// The same as a document that can be set again.
    pub toml: String,
}

/// `POST /v1/board/policy`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// What errors call it.
    pub name: String,
    /// The policy as a TOML document.
    pub toml: String,
}

/// `POST /v1/board/export`. The answer is a stream of lines, one event each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// Filters (NIP-01): an event that matches any of them is exported. `[{}]` is everything.
    pub filters: Vec<serde_json::Value>,
}

/// `POST /v1/board/sync`. The answer is a stream of lines, a [`SyncNews`] each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// The other relay, `ws://` or `wss://`.
    pub url: String,
    /// What is to be the same on both (NIP-01).
    pub filter: serde_json::Value,
    /// Which way events go.
    pub direction: board::sync::Direction,
}

/// How a synchronisation goes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncNews {
    /// It goes on.
    Progress(board::sync::SyncReport),
    /// It came to its end.
    Done(board::sync::SyncReport),
    /// It broke off, for this reason.
    Failed(String),
}

/// `POST /v1/node/open`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// The peer, which must be connected.
    pub node_id: String,
    /// Size in satoshis.
    pub capacity_sat: u64,
    /// Given to the peer at once, in millisatoshis.
    #[serde(default)]
    pub push_msat: u64,
    /// Announce it to the network.
    #[serde(default)]
    pub announced: bool,
}

/// Answer to [`OpenRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OpenReply {
    /// The channel's handle.
    pub channel: ChannelId,
}

/// `POST /v1/node/close`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    /// The channel's handle.
    pub channel: String,
    /// Without the peer's signature.
    #[serde(default)]
    pub force: bool,
}

/// Answer of `POST /v1/node/address`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AddressReply {
    /// A fresh on-chain address.
    pub address: String,
}

/// `POST /v1/node/send`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// Where to.
    pub address: String,
    /// How much.
    pub amount_sat: u64,
    /// Fee rate; none for the estimate.
    #[serde(default)]
    pub fee_rate_sat_per_vb: Option<u32>,
}

/// Answer to [`SendRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SendReply {
    /// Id of the transaction.
    pub txid: String,
}

/// `POST /v1/node/invoice`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeInvoice {
    /// Amount; none lets the payer choose.
    #[serde(default)]
    pub amount_msat: Option<u64>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How long it may be paid.
    #[serde(default = "one_hour")]
    pub expiry_secs: u32,
}

fn one_hour() -> u32 {
    3600
}

/// `POST /v1/node/offer`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeOffer {
    /// Amount; none lets the payer choose.
    #[serde(default)]
    pub amount_msat: Option<u64>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How long it may be paid; none for ever.
    #[serde(default)]
    pub expiry_secs: Option<u32>,
}

/// Answer to [`MakeInvoice`] and [`MakeOffer`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceReply {
    /// The invoice or offer.
    pub invoice: String,
}

/// `POST /v1/node/pay`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayRequest {
    /// A BOLT11 invoice or a BOLT12 offer.
    pub payable: String,
    /// Only for one without an amount.
    #[serde(default)]
    pub amount_msat: Option<u64>,
    /// Most that routing may cost.
    #[serde(default)]
    pub max_fee_msat: Option<u64>,
}

/// `POST /v1/listings`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SellRequest {
    /// What it is, 1 to 100 characters.
    pub product_name: String,
    /// Up to 2000 characters.
    #[serde(default)]
    pub description: String,
    /// Asking price, shipping included.
    pub price_sat: u64,
    /// Up to 50 characters.
    #[serde(default)]
    pub category: Option<String>,
    /// Estimated days under way.
    #[serde(default)]
    pub shipping_days: Option<u16>,
    /// How many there are.
    #[serde(default = "one_piece")]
    pub stock: u32,
    /// The escrow terms.
    pub escrow: EscrowTerms,
}

fn one_piece() -> u32 {
    1
}

/// `POST /v1/listings/{listing}`: what its seller does with a listing. Trades that run stay bound to the version they took.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum ListingRequest {
    /// A new version: what is left out stays as it is.
    Edit {
        /// 1 to 100 characters.
        #[serde(default)]
        product_name: Option<String>,
        /// Up to 2000 characters.
        #[serde(default)]
        description: Option<String>,
        /// Asking price, shipping included.
        #[serde(default)]
        price_sat: Option<u64>,
        /// Up to 50 characters.
        #[serde(default)]
        category: Option<String>,
        /// Estimated days under way.
        #[serde(default)]
        shipping_days: Option<u16>,
    },
    /// How many there are, those of trades under way included.
    Restock {
        /// How many.
        stock: u32,
    },
    /// No more bids; boards take it off.
    Withdraw {
        /// Up to 500 characters.
        #[serde(default)]
        reason: String,
    },
}

/// A listing of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StallView {
    /// Id of the newest version; none while it is not out.
    pub listing: Option<MessageId>,
    /// What it is.
    pub product_name: String,
    /// Asking price.
    pub price_sat: Sat,
    /// Which version is the newest, from 0.
    pub version: u32,
    /// How many there are, those of trades under way included.
    pub stock: u32,
    /// How many of them trades take.
    pub taken: u32,
    /// Bids that wait for an answer.
    pub bids: usize,
    /// It takes bids.
    pub open: bool,
}

/// `GET /v1/listings`: what is for sale on the boards, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Listings {
    /// The listings.
    pub listings: Vec<ListingView>,
    /// Boards that have more than was read of them; empty when this is all.
    pub left_out: Vec<LeftOut>,
}

/// A board has more than was read of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Which board.
    pub board: String,
    /// What is missing, and why.
    pub why: String,
}

/// `GET /v1/adverts`: what other markets offer on our boards and relays, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Adverts {
    /// The adverts.
    pub adverts: Vec<AdvertView>,
    /// Boards and relays that have more than was read of them; empty when this is all.
    pub left_out: Vec<LeftOut>,
}

/// A listing as the boards show it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListingView {
    /// Its id.
    pub id: MessageId,
    /// Who sells.
    pub payee: PartyKey,
    /// The seller's own name for it: a newer listing with the same name supersedes it.
    pub d: String,
    /// When it was listed.
    pub listed_at: Unix,
    /// What it is.
    pub product_name: String,
    /// More about it.
    pub description: String,
    /// Asking price.
    pub price_sat: Sat,
    /// Category.
    pub category: Option<String>,
    /// Estimated days under way.
    pub shipping_days: Option<u16>,
    /// Escrow terms; none from clients that do not know them, and then souk cannot bid.
    pub escrow: Option<EscrowTerms>,
    /// An order for bitcoin against money of a country; `price_sat` is then about what the most of it comes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiat: Option<FiatTerms>,
    /// Boards that have it.
    pub boards: Vec<String>,
    /// The market it is of: `souk`, or `domp` for other clients of DOMP.
    pub source: String,
}

/// What another market offers, in `GET /v1/adverts`, and in `GET /v1/orders` CivKit's market orders. All of its text is fit to be
/// shown on a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdvertView {
    /// Which market: `shopstr`, `plebeian`, `nip99`, `mostro`, `robosats`, `lnp2pbot`, `peach`, `nip69`, `nip15`, `civkit`, or
    /// `souk` for a mirror whose listing no board has.
    pub source: String,
    /// Which part of that market, such as the name of a Mostro node; empty where there is none.
    pub venue: String,
    /// Id of the event.
    pub id: MessageId,
    /// Kind of the event.
    pub kind: u16,
    /// Who published it; often the platform, not the trader.
    pub author: PartyKey,
    /// Its name within author and kind.
    pub d: String,
    /// When it was published.
    pub listed_at: Unix,
    /// What it is.
    pub product_name: String,
    /// More about it.
    pub description: String,
    /// Where.
    pub place: String,
    /// The price in satoshis, where it is one of bitcoin.
    pub price_sat: Option<Sat>,
    /// The price of a thing.
    pub price: Option<PriceView>,
    /// How many there are, where somebody says.
    pub stock: Option<u32>,
    /// What it is filed under.
    pub categories: Vec<String>,
    /// An order for bitcoin against money of a country.
    pub currency: Option<CurrencyView>,
    /// A market order: the string that any wallet pays.
    pub order: Option<String>,
    /// When it ceases to hold.
    pub expires_at: Option<Unix>,
    /// Where it can be taken.
    pub link: Option<String>,
    /// How to take it, in words.
    pub take: String,
    /// Boards and relays that have it.
    pub boards: Vec<String>,
}

/// A price on another market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceView {
    /// How much, a decimal number.
    pub amount: String,
    /// Of which currency.
    pub currency: String,
    /// For how long, for what is let.
    pub per: Option<String>,
}

/// An order for bitcoin against money of a country (NIP-69).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CurrencyView {
    /// Its author sells bitcoin; otherwise it buys.
    pub sells_bitcoin: bool,
    /// The currency.
    pub currency: String,
    /// Least amount of it, a decimal number.
    pub min: String,
    /// Most.
    pub max: String,
    /// Per cent above the market price, or below.
    pub premium_percent: String,
    /// How the currency is paid.
    pub methods: Vec<String>,
    /// Bitcoin network.
    pub network: String,
    /// `lightning`, `onchain`, `liquid`.
    pub layer: String,
}

/// `POST /v1/orders`: publishes a market order (CivKit).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// A BOLT11 invoice or a BOLT12 offer, with an amount.
    pub order: String,
    /// The board; none for every configured one.
    #[serde(default)]
    pub board: Option<String>,
}

/// Answer to [`OrderRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OrderReply {
    /// Id of the event.
    pub id: MessageId,
    /// The string that any wallet pays.
    pub order: String,
    /// Its amount, in words.
    pub amount: String,
    /// When it can no longer be paid.
    pub expires_at: Option<Unix>,
    /// What each board said; at least one took it.
    pub boards: Vec<OrderTaken>,
}

/// What a board said to an order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OrderTaken {
    /// The board.
    pub board: String,
    /// Why it did not take it; none when it did.
    pub refused: Option<String>,
}

/// `POST /v1/bids`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BidRequest {
    /// The listing.
    pub listing: MessageId,
    /// How many of what is listed.
    #[serde(default = "one_piece")]
    pub quantity: u32,
    /// Price offered for all of them; none for the asking price.
    #[serde(default)]
    pub amount_sat: Option<u64>,
    /// The arbiter; none for the first that the listing names.
    #[serde(default)]
    pub arbiter: Option<PartyKey>,
    /// The payer's bond; none for what the listing asks.
    #[serde(default)]
    pub payer_bond_sat: Option<u64>,
    /// Up to 500 characters.
    #[serde(default)]
    pub message: Option<String>,
    /// How long the seller may take to answer, 1 to 168; none for 24.
    #[serde(default)]
    pub timeout_hours: Option<u16>,
    /// Wait for the step `pay` before paying what the seller accepted.
    #[serde(default)]
    pub pay_by_hand: bool,
    /// The most that the arbiter may charge.
    #[serde(default)]
    pub max_arbiter_fee_sat: u64,
}

impl BidRequest {
    /// For one piece at the asking price, with the first arbiter and the bond that the listing names.
    pub fn on(listing: MessageId) -> BidRequest {
        BidRequest {
            listing,
            quantity: one_piece(),
            amount_sat: None,
            arbiter: None,
            payer_bond_sat: None,
            message: None,
            timeout_hours: None,
            pay_by_hand: false,
            max_arbiter_fee_sat: 0,
        }
    }
}

/// `POST /v1/trades/{trade}/{step}`: what a party does next. The step is the variant's name in lower case.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepRequest {
    /// The payee accepts the bid, or another lock that the payer asks for.
    Accept {
        /// How long shipping takes, in days; none for what the listing says.
        #[serde(default)]
        shipping_days: Option<u16>,
        /// Up to 1000 characters.
        #[serde(default)]
        terms: Option<String>,
    },
    /// Either names another price; the payer agrees by naming the price that the payee asks.
    Counter {
        /// The price, shipping included.
        amount_sat: u64,
    },
    /// The payee turns the bid down.
    Reject {
        /// Told to the payer, up to 500 characters.
        #[serde(default)]
        reason: String,
    },
    /// The payer has looked at the invoices: they may be paid.
    Pay,
    /// The payer asks to lock the same money again, because the goods outlive the lock.
    Relock,
    /// Before anything is agreed either walks away; after, it takes both.
    Cancel {
        /// Told to the other side.
        #[serde(default)]
        reason: String,
    },
    /// The payee sent the goods.
    Ship {
        /// Up to 500 characters.
        #[serde(default)]
        note: String,
        /// Proof of dispatch.
        #[serde(default)]
        tracking: Option<String>,
    },
    /// The payer received the goods and releases the price, or says that it did not, which opens a dispute.
    Confirm {
        /// What the payer says of the goods.
        #[serde(default = "received")]
        status: ReceiptStatus,
        /// 1 to 5.
        #[serde(default)]
        rating: Option<u8>,
        /// Up to 1000 characters.
        #[serde(default)]
        feedback: Option<String>,
        /// Required unless received.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The payee gives the money back.
    Refund {
        /// Up to 500 characters.
        #[serde(default)]
        reason: String,
    },
    /// Either party asks the arbiter to rule.
    Dispute {
        /// Up to 100 characters.
        reason: String,
        /// Up to 2000 characters.
        #[serde(default)]
        details: String,
    },
    /// The arbiter decides.
    Rule {
        /// How many tranches of the price go to the payee.
        payee_tranches: u8,
        /// The payer's bond.
        payer_bond: BondFate,
        /// The payee's bond.
        payee_bond: BondFate,
        /// The reasons, up to 2000 characters.
        resolution: String,
    },
    /// Either party rates the other.
    Rate {
        /// 1 to 5.
        rating: u8,
        /// Up to 1000 characters.
        #[serde(default)]
        comment: Option<String>,
    },
    /// Either party rates the arbiter.
    RateArbiter {
        /// 1 to 5.
        rating: u8,
        /// Up to 1000 characters.
        #[serde(default)]
        comment: Option<String>,
    },
    /// Either party rates a board, in public.
    RateBoard {
        /// The board, `ws://` or `wss://`.
        url: String,
        /// 1 to 5.
        rating: u8,
        /// Up to 1000 characters.
        #[serde(default)]
        comment: Option<String>,
    },
}

/// `POST /v1/trades/{trade}/chat`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// 1 to 4000 characters. Sealed, and signed to nobody but its reader.
    pub text: String,
    /// Who hears it: `counterparty` (when left out) or `arbiter`.
    #[serde(default)]
    pub to: ChatTo,
}

/// Who hears a word of chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatTo {
    /// The other side.
    #[default]
    Counterparty,
    /// The arbiter.
    Arbiter,
}

/// A word of chat, as `GET /v1/trades/{trade}/chat` lists them, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatView {
    /// When it was said, by the clock of who said it.
    pub at: Unix,
    /// `payer`, `payee` or `arbiter`.
    pub from: String,
    /// We said it.
    pub ours: bool,
    /// What was said.
    pub text: String,
}

fn received() -> ReceiptStatus {
    ReceiptStatus::Received
}

/// Where one leg of a trade stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LegView {
    /// `price`, `payer_bond` or `payee_bond`.
    pub leg: String,
    /// Which part of the price, from 0.
    pub tranche: u8,
    /// Its payment hash.
    pub hash: PaymentHash,
    /// Its amount.
    pub amount_sat: Sat,
    /// What this side knows of it: `open`, `paying`, `held`, `settled`, `canceled`.
    pub state: String,
}

/// The heights of a trade, once its legs are held (10-escrow §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadlinesView {
    /// Both parties are warned.
    pub warn: Height,
    /// The ruling or the default on silence applies.
    pub rule: Height,
    /// Our node has settled or failed the legs.
    pub hard: Height,
    /// The HTLCs expire.
    pub expiry: Height,
}

/// Every state that a trade may be in ([`TradeView::state`]), over all roles.
pub const STATES: [&str; 15] = [
    "appointing",
    "asked",
    "serving",
    "bid",
    "countered",
    "accepted",
    "locking",
    "held",
    "shipped",
    "relock_asked",
    "disputed",
    "released",
    "ruled",
    "winding",
    "closed",
];

/// Every way in which a trade may end ([`TradeView::outcome`]), over all roles.
pub const OUTCOMES: [&str; 9] =
    ["expired", "canceled", "settled", "refunded", "split", "unneeded", "ruled", "defaulted", "missed"];

/// A trade as this side knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TradeView {
    /// Its id.
    pub trade: TradeId,
    /// `payer`, `payee` or `arbiter`.
    pub role: String,
    /// Where it stands, in one word.
    pub state: String,
    /// How it ended, once it has.
    pub outcome: Option<String>,
    /// What this side may or should do now, in words.
    pub next: String,
    /// The listing.
    pub listing: MessageId,
    /// What is traded.
    pub product_name: String,
    /// How many of it.
    pub quantity: u32,
    /// The agreed price; before that, the payer's last offer.
    pub price_sat: Sat,
    /// What the payer quoted, in a trade of bitcoin against money of a country: the payee buys bitcoin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fiat: Option<FiatBid>,
    /// What the payee asks instead, when it does.
    pub asked_sat: Option<Sat>,
    /// The other side: the payee for a payer, else the payer.
    pub counterparty: PartyKey,
    /// The arbiter.
    pub arbiter: Option<PartyKey>,
    /// What the arbiter charges, once it said so; none when it serves for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee: Option<FeeView>,
    /// The legs.
    pub legs: Vec<LegView>,
    /// The deadlines.
    pub deadlines: Option<DeadlinesView>,
    /// What still has to happen because of the log, in words.
    pub owed: Vec<String>,
    /// What our user was warned of, oldest first.
    pub warnings: Vec<WarningView>,
}

/// What the arbiter charges the payer, by an ordinary invoice: no leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeeView {
    /// How much.
    pub amount_sat: Sat,
    /// `unpaid`, `paying`, `paid` or `failed`; none for the payee, who does not see it.
    pub state: Option<String>,
}

/// Something that our user should act on, or know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarningView {
    /// Money may be lost unless a person looks.
    pub alarm: bool,
    /// In words.
    pub text: String,
}

/// Answer to a request that moved a trade.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TradeReply {
    /// Which trade.
    pub trade: TradeId,
}

/// Answer to [`SellRequest`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListingReply {
    /// Id of the listing.
    pub listing: MessageId,
}
