//! A batch of credentials from the order to the signatures: what is known of it, what is to be done next, and what an answer makes of it.
//!
//! ```text
//! Ordered -> Quoted -> Paying -> Paid -> Issued
//! each but the last -> Failed
//! ```
//!
//! Reads no clock and touches nothing; `buying` does what is due, and records each state before it acts on it. Nothing that the board says
//! makes a batch fail that is paid: it is asked again until its keyset is of no use any more.

use credential::quote::{Answer, Order, Request};
use credential::{Blank, BlindSignature, Keyset, KeysetId, Token, derive_key};
use node::{PaymentId, PaymentState};
use secp256k1::{Keypair, PublicKey, SECP256K1};
use serde::{Deserialize, Serialize};
use trade::PartyKey;
use units::{Msat, Preimage, Unix, hex32, parse_hex32};
use wire::invoice::{InvoiceError, description_hash, parse_invoice};

/// How long a board may take to name an invoice: a purchase that nobody waits for any more is not made.
const QUOTE_PATIENCE_SECS: u64 = 600;
/// How long after its expiry an invoice is asked about that our node has never heard of.
const UNPAID_PATIENCE_SECS: u64 = 24 * 3600;
/// Most blocks that the money for an ordinary invoice may be locked at its end.
const FINAL_CLTV_MAX: u32 = 144;

/// Why a batch is not bought. Codes are stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The board did not name an invoice.
    #[error("the board did not answer in time; nothing was paid")]
    NoAnswer,
    /// It does not sell.
    #[error("the board refused: {0}")]
    Refused(String),
    /// It answered for another order.
    #[error("the board's quote is for another order")]
    OtherQuote,
    /// Its invoice cannot be read.
    #[error("the board's invoice cannot be read: {0}")]
    Unreadable(InvoiceError),
    /// Its invoice is of another chain.
    #[error("the board's invoice is for {0}, our node is on another network")]
    Network(String),
    /// Its invoice asks for another amount than was shown.
    #[error("the board's invoice asks for another amount than {0} msat, the price that it published")]
    Amount(Msat),
    /// Its invoice is not for this batch.
    #[error("the board's invoice does not say that it is for this batch")]
    Commitment,
    /// Its invoice could lock our money for long.
    #[error("the board's invoice may lock the money for {0} blocks")]
    Locked(u32),
    /// Its invoice, or the time of the keyset, is over.
    #[error("the board's invoice is too old to be paid")]
    Expired,
    /// Our node could not pay.
    #[error("the payment failed: {0}. Nothing was paid")]
    Payment(String),
    /// It did not sign with the key that it published: it could know its buyers apart.
    #[error(
        "the board was paid and signed with another key than it published: none of these credentials is used. Invoice and \
             preimage are the proof: `souk credential list --json`"
    )]
    Forged,
    /// It took the money and did not sign in the time of its keyset.
    #[error("the board was paid and never signed. Invoice and preimage are the proof: `souk credential list --json`")]
    NeverIssued,
}

impl Failure {
    /// Its stable name.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Failure::NoAnswer => "no-answer",
            Failure::Refused(_) => "board-refused",
            Failure::OtherQuote => "quote-mismatch",
            Failure::Unreadable(_) => "invoice-unreadable",
            Failure::Network(_) => "invoice-network",
            Failure::Amount(_) => "invoice-amount",
            Failure::Commitment => "invoice-commitment",
            Failure::Locked(_) => "invoice-cltv",
            Failure::Expired => "invoice-expired",
            Failure::Payment(_) => "payment-failed",
            Failure::Forged => "forged",
            Failure::NeverIssued => "never-issued",
        }
    }
}

/// A credential as it is kept: what is shown of it, and the board's signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    secret: String,
    point: String,
}

/// How far a batch is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub(crate) enum State {
    /// The board is asked for an invoice.
    Ordered,
    /// It named one, which is as it should be.
    Quoted {
        /// It.
        invoice: String,
    },
    /// Our node is told to pay it.
    Paying {
        /// It.
        invoice: String,
        /// What our node knows the payment by.
        payment: PaymentId,
    },
    /// It is paid, and the board is asked to sign.
    Paid {
        /// The invoice.
        invoice: String,
        /// Proves with it that the board was paid.
        preimage: Preimage,
    },
    /// The credentials are there.
    Issued {
        /// Each, in the order of their blanks.
        tokens: Vec<Kept>,
    },
    /// Nothing comes of it.
    Failed {
        /// [`Failure::code`].
        code: String,
        /// In words.
        why: String,
        /// What was paid, and the proof of it; none where nothing was.
        paid: Option<(String, Preimage)>,
    },
}

impl State {
    /// Its stable name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            State::Ordered => "ordered",
            State::Quoted { .. } => "quoted",
            State::Paying { .. } => "paying",
            State::Paid { .. } => "paid",
            State::Issued { .. } => "issued",
            State::Failed { .. } => "failed",
        }
    }
}

/// What is to be done for a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask the board.
    Ask(Request),
    /// Record that the invoice is being paid.
    Begin,
    /// Look at the payment, and pay if it was never begun.
    Pay {
        /// The invoice.
        invoice: String,
        /// What our node knows the payment by.
        payment: PaymentId,
    },
    /// Record that nothing comes of it.
    GiveUp(Failure),
    /// Nothing, for ever.
    Done,
}

/// A batch, as it is kept in the store, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// The board's address.
    pub(crate) board: String,
    /// The key that it speaks with.
    pub(crate) board_key: PartyKey,
    /// What it signs with, as two connections were told.
    #[serde(with = "as_tag")]
    pub(crate) keyset: Keyset,
    /// Number of the first blank.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: usize,
    /// When it was ordered.
    pub(crate) at: Unix,
    /// What the board calls it, and we.
    pub(crate) quote: String,
    /// How far it is.
    pub(crate) state: State,
}

impl Batch {
    /// An order of `count` credentials, whose blanks were never used before.
    pub(crate) fn order(
        master: &[u8; 32],
        (board, board_key): (&str, [u8; 32]),
        keyset: Keyset,
        (first, count): (u64, usize),
        at: Unix,
    ) -> Batch {
        let (board, board_key) = (board.to_owned(), PartyKey(board_key));
        let mut batch =
            Batch { board, board_key, keyset, first, count, at, quote: String::new(), state: State::Ordered };
        batch.quote = hex32(&batch.asks(master).quote());
        batch
    }

    /// What it costs; `None` if that is no amount.
    pub(crate) fn amount(&self) -> Option<Msat> {
        price(&self.keyset, self.count)
    }

    /// The credentials have come, or nothing will.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Issued { .. } | State::Failed { .. })
    }

    /// What it is kept by.
    pub(crate) fn name(&self) -> (KeysetId, u64) {
        (self.keyset.id, self.first)
    }

    /// The credentials have come.
    pub(crate) fn is_issued(&self) -> bool {
        matches!(self.state, State::Issued { .. })
    }

    /// It was paid, or may be yet.
    pub(crate) fn may_have_cost(&self) -> bool {
        !matches!(self.state, State::Failed { paid: None, .. })
    }

    /// The board was paid and has not signed.
    pub(crate) fn is_paid(&self) -> bool {
        matches!(self.state, State::Paid { .. })
    }

    /// The key that asks for it: nobody has seen it before.
    pub(crate) fn asker(&self, master: &[u8; 32]) -> Keypair {
        self.derive(master, b"asker")
    }

    /// The same order, however often it is said.
    pub(crate) fn asks(&self, master: &[u8; 32]) -> Order {
        let outputs = self.blanks(master).map(|blank| blank.blinded()).collect();
        Order { keyset: self.keyset.id, client: self.client(master).public_key(), outputs }
    }

    /// The key that gets the signatures.
    fn client(&self, master: &[u8; 32]) -> Keypair {
        self.derive(master, b"client")
    }

    fn derive(&self, master: &[u8; 32], what: &[u8]) -> Keypair {
        let parts: [&[u8]; 4] = [b"souk/batch/v1", what, &self.keyset.id.0, &self.first.to_be_bytes()];
        derive_key(master, &parts).keypair(SECP256K1)
    }

    fn blanks<'a>(&self, master: &'a [u8; 32]) -> impl Iterator<Item = Blank> + use<'a> {
        let (keyset, first) = (self.keyset.id, self.first);
        (first..first + self.count as u64).map(move |index| Blank::derive(master, keyset, index))
    }

    /// What is to be done now.
    pub(crate) fn next(&self, master: &[u8; 32], now: Unix) -> Next {
        match &self.state {
            State::Ordered if now.0 > self.at.0.saturating_add(QUOTE_PATIENCE_SECS) => Next::GiveUp(Failure::NoAnswer),
            State::Ordered => Next::Ask(Request::Quote(self.asks(master))),
            // An invoice that was not begun to be paid before a restart may be too old by now.
            State::Quoted { invoice } => match parse_invoice(invoice) {
                Ok(facts) if now < facts.expires_at && self.keyset.issues(now) => Next::Begin,
                Ok(_) => Next::GiveUp(Failure::Expired),
                Err(error) => Next::GiveUp(Failure::Unreadable(error)),
            },
            State::Paying { invoice, payment } => Next::Pay { invoice: invoice.clone(), payment: *payment },
            State::Paid { .. } if now >= self.keyset.redeem_until => Next::GiveUp(Failure::NeverIssued),
            State::Paid { .. } => Next::Ask(self.claims(master)),
            State::Issued { .. } | State::Failed { .. } => Next::Done,
        }
    }

    /// Asks for what was paid.
    pub(crate) fn claims(&self, master: &[u8; 32]) -> Request {
        let order = self.asks(master);
        Request::Issue { quote: order.quote(), claim: order.claim(&self.client(master)) }
    }

    /// The state that the board's answer leads to; none when it leads nowhere.
    pub(crate) fn hears(&self, master: &[u8; 32], answer: &Answer, network: &str, now: Unix) -> Option<State> {
        match (&self.state, answer) {
            (State::Ordered, Answer::Unpaid { .. }) => Some(match self.check(master, answer, network, now) {
                Ok(invoice) => State::Quoted { invoice },
                Err(failure) => self.failed(&failure),
            }),
            (State::Ordered, Answer::Refused(reason)) => Some(self.failed(&Failure::Refused(reason.clone()))),
            // Also when we do not know that it was paid: a store may be older than the payment.
            (State::Issued { .. } | State::Failed { .. }, _) => None,
            (_, Answer::Issued { quote, signatures }) => {
                (hex32(quote) == self.quote).then(|| self.collect(master, signatures))
            }
            _ => None,
        }
    }

    /// Is this the invoice that may be paid?
    fn check(&self, master: &[u8; 32], answer: &Answer, network: &str, now: Unix) -> Result<String, Failure> {
        let Answer::Unpaid { quote, invoice, commitment, expiry } = answer else { return Err(Failure::OtherQuote) };
        let order = self.asks(master);
        if *quote != order.quote() {
            return Err(Failure::OtherQuote);
        }
        let facts = parse_invoice(invoice).map_err(Failure::Unreadable)?;
        if facts.network != network || !facts.features_known {
            return Err(Failure::Network(facts.network));
        }
        let amount = self.amount().unwrap_or_default();
        if amount == Msat::ZERO || facts.amount != Some(amount) {
            return Err(Failure::Amount(amount));
        }
        // What we compute, not what the board says it is.
        let ours = order.commitment(&self.board_key.0, amount, *expiry);
        if description_hash(invoice).map_err(Failure::Unreadable)? != Some(ours) || *commitment != ours {
            return Err(Failure::Commitment);
        }
        if facts.min_final_cltv > FINAL_CLTV_MAX {
            return Err(Failure::Locked(facts.min_final_cltv));
        }
        if now >= *expiry || now >= facts.expires_at || !self.keyset.issues(now) {
            return Err(Failure::Expired);
        }
        Ok(invoice.clone())
    }

    /// The credentials, if the published key made every one of the signatures.
    fn collect(&self, master: &[u8; 32], signatures: &[BlindSignature]) -> State {
        let unblinded = |(blank, signature): (Blank, &BlindSignature)| {
            blank.unblind(&self.keyset, signature).map(|token| Kept::of(&token))
        };
        let tokens = self.blanks(master).zip(signatures).map(unblinded).collect::<Result<Vec<_>, _>>();
        match tokens {
            Ok(tokens) if signatures.len() == self.count => State::Issued { tokens },
            Ok(_) | Err(_) => self.failed(&Failure::Forged),
        }
    }

    /// The state in which the invoice is being paid.
    pub(crate) fn begun(&self) -> Option<State> {
        let State::Quoted { invoice } = &self.state else { return None };
        let payment = parse_invoice(invoice).ok()?.hash.into();
        Some(State::Paying { invoice: invoice.clone(), payment })
    }

    /// The state that our node's word about the payment leads to; none while it is under way.
    pub(crate) fn paid(&self, payment: &PaymentState) -> Option<State> {
        let State::Paying { invoice, payment: id } = &self.state else { return None };
        match payment {
            PaymentState::InFlight => None,
            PaymentState::Succeeded { preimage, .. } if PaymentId::from(preimage.hash()) == *id => {
                Some(State::Paid { invoice: invoice.clone(), preimage: preimage.clone() })
            }
            PaymentState::Succeeded { .. } => None,
            PaymentState::Failed { reason } => Some(self.failed(&Failure::Payment(reason.clone()))),
        }
    }

    /// Our node has never heard of the payment. May it still be begun?
    pub(crate) fn may_pay(&self, now: Unix) -> bool {
        let State::Paying { invoice, .. } = &self.state else { return false };
        parse_invoice(invoice).is_ok_and(|facts| now < facts.expires_at) && self.keyset.issues(now)
    }

    /// The same, and it is not even worth asking any more whether it was paid: `unpaid` when the board says that it was not.
    pub(crate) fn was_never_paid(&self, now: Unix, unpaid: bool) -> bool {
        let State::Paying { invoice, .. } = &self.state else { return false };
        let expired = parse_invoice(invoice).map_or(Unix(0), |facts| facts.expires_at);
        let patience = if unpaid { 0 } else { UNPAID_PATIENCE_SECS };
        now.0 > expired.0.saturating_add(patience) || !self.keyset.redeems(now)
    }

    /// The state in which nothing comes of it any more.
    pub(crate) fn failed(&self, failure: &Failure) -> State {
        let paid = match &self.state {
            State::Paid { invoice, preimage } => Some((invoice.clone(), preimage.clone())),
            _ => None,
        };
        State::Failed { code: failure.code().to_owned(), why: failure.to_string(), paid }
    }

    /// Credential number `place` of the batch.
    pub(crate) fn token(&self, place: usize) -> Option<Token> {
        let State::Issued { tokens } = &self.state else { return None };
        tokens.get(place)?.token(self.keyset)
    }
}

/// What so many credentials of a keyset cost; `None` if that is no amount.
pub(crate) fn price(keyset: &Keyset, count: usize) -> Option<Msat> {
    keyset.price.0.checked_mul(count as u64).map(Msat)
}

impl Kept {
    fn of(token: &Token) -> Kept {
        Kept { secret: hex32(&token.secret), point: token.point.to_string() }
    }

    fn token(&self, keyset: Keyset) -> Option<Token> {
        let point: PublicKey = self.point.parse().ok()?;
        Some(Token { keyset: keyset.id, secret: parse_hex32(&self.secret).ok()?, point })
    }
}

/// A keyset as the tag in which it was published.
mod as_tag {
    use credential::Keyset;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(keyset: &Keyset, serializer: S) -> Result<S::Ok, S::Error> {
        keyset.to_tag().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Keyset, D::Error> {
        Keyset::from_tag(&Vec::<String>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
