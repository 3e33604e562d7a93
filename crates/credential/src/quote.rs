//! How a batch is bought: what board and client say to each other, and what each statement commits to.
//!
//! ```text
//! client  23250  {"v":1,"op":"quote","keyset","k","P","outputs":[B..],"method":"bolt11"}
//! board   23251  {"v":1,"quote","request":"lnbc..","commit","expiry","state":"UNPAID"}
//! client         pays: the invoice's description hash is `commit`
//! client  23250  {"v":1,"op":"issue","quote","sig"}
//! board   23251  {"v":1,"quote","state":"ISSUED","sigs":[["C_","e","s"],..]}
//! board   23251  {"v":1,"state":"REFUSED","reason"}
//! ```
//!
//! Both kinds are ephemeral, their content is sealed to the other side (NIP-44), a `p` tag names it, and an answer names in an `e`
//! tag what it answers. `P` is a key made for this batch alone: only who has it gets the signatures, since the preimage is known to
//! every node on the way.

use secp256k1::schnorr::Signature;
use secp256k1::{Keypair, Message, PublicKey, SECP256K1};
use serde::{Deserialize, Serialize};
use units::{Msat, Unix};

use crate::curve::sha256;
use crate::issue::BlindSignature;
use crate::keyset::{Keyset, KeysetId, Unreadable, hex, public_key};

/// A request to the board.
pub const KIND_REQUEST: u16 = 23250;
/// What it answers.
pub const KIND_ANSWER: u16 = 23251;
/// Holds a credential for an event that comes without one, for clients that know only NIP-01.
pub const KIND_AHEAD: u16 = 23252;
/// What a board publishes of its keysets; replaceable, signed by the key that its information document (NIP-11) calls `self`.
pub const KIND_POLICY: u16 = 13250;
/// Most credentials in a batch: more do not fit a sealed message.
pub const BATCH_MAX: usize = 250;
/// Sizes of batches that clients buy, so that the size tells nobody apart.
pub const BATCHES: [usize; 4] = [10, 50, 100, 250];

/// What is bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Signed with this keyset.
    pub keyset: KeysetId,
    /// The client's key for this batch.
    pub client: PublicKey,
    /// Blinded points, 1 to [`BATCH_MAX`], each another.
    pub outputs: Vec<PublicKey>,
}

impl Order {
    /// What the batch costs; `None` if that is no amount.
    pub fn amount(&self, keyset: &Keyset) -> Option<Msat> {
        keyset.price.0.checked_mul(self.outputs.len() as u64).map(Msat)
    }

    /// Name of the quote: the same order is the same quote, however often it is sent.
    pub fn quote(&self) -> [u8; 32] {
        sha256(&[b"souk/quote/v1", &self.keyset.0, &self.client.serialize(), &self.outputs_hash()])
    }

    /// What the invoice's description hash has to be: so the board's node signs who sells what, to whom, for how much.
    pub fn commitment(&self, board: &[u8; 32], amount: Msat, expiry: Unix) -> [u8; 32] {
        sha256(&[
            b"board-cred/quote/v1\0",
            board,
            &self.keyset.0,
            &(self.outputs.len() as u32).to_be_bytes(),
            &amount.0.to_be_bytes(),
            &self.client.serialize(),
            &self.outputs_hash(),
            &expiry.0.to_be_bytes(),
        ])
    }

    /// The client's signature under the request to issue.
    pub fn claim(&self, key: &Keypair) -> Signature {
        SECP256K1.sign_schnorr_no_aux_rand(&self.claimed(), key)
    }

    /// Whether `claim` is of the one who ordered.
    pub fn is_claimed_by(&self, claim: &Signature) -> bool {
        let (key, _) = self.client.x_only_public_key();
        SECP256K1.verify_schnorr(claim, &self.claimed(), &key).is_ok()
    }

    fn claimed(&self) -> Message {
        let mut parts: Vec<Vec<u8>> = vec![b"board-cred/issue/v1\0".to_vec(), self.quote().to_vec()];
        parts.extend(self.outputs.iter().map(|output| output.serialize().to_vec()));
        Message::from_digest(sha256(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }

    fn outputs_hash(&self) -> [u8; 32] {
        let outputs: Vec<_> = self.outputs.iter().map(PublicKey::serialize).collect();
        sha256(&outputs.iter().map(<[u8; 33]>::as_slice).collect::<Vec<_>>())
    }
}

/// What a client asks, the content of kind 23250.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RequestShape", into = "RequestShape")]
pub enum Request {
    /// What a batch costs, and an invoice for it.
    Quote(Order),
    /// The signatures of a batch that was paid.
    Issue {
        /// Which.
        quote: [u8; 32],
        /// [`Order::claim`].
        claim: Signature,
    },
}

/// What the board answers, the content of kind 23251.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AnswerShape", into = "AnswerShape")]
pub enum Answer {
    /// To be paid.
    Unpaid {
        /// Name of the quote.
        quote: [u8; 32],
        /// BOLT#11 invoice.
        invoice: String,
        /// [`Order::commitment`].
        commitment: [u8; 32],
        /// Until when it can be paid.
        expiry: Unix,
    },
    /// Paid, and signed.
    Issued {
        /// Name of the quote.
        quote: [u8; 32],
        /// One for each output, in their order.
        signatures: Vec<BlindSignature>,
    },
    /// No; for people.
    Refused(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "op", rename_all = "lowercase")]
enum RequestShape {
    Quote {
        v: u8,
        keyset: String,
        k: usize,
        #[serde(rename = "P")]
        client: String,
        outputs: Vec<String>,
        method: String,
    },
    Issue {
        v: u8,
        quote: String,
        sig: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "state", rename_all = "UPPERCASE")]
enum AnswerShape {
    Unpaid { v: u8, quote: String, request: String, commit: String, expiry: u64 },
    Issued { v: u8, quote: String, sigs: Vec<BlindSignature> },
    Refused { v: u8, reason: String },
}

/// Version of the messages.
const VERSION: u8 = 1;
/// Longest reason of a refusal that is read.
const REASON_MAX: usize = 500;

impl From<Request> for RequestShape {
    fn from(request: Request) -> RequestShape {
        match request {
            Request::Quote(order) => RequestShape::Quote {
                v: VERSION,
                keyset: order.keyset.to_string(),
                k: order.outputs.len(),
                client: order.client.to_string(),
                outputs: order.outputs.iter().map(PublicKey::to_string).collect(),
                method: "bolt11".into(),
            },
            Request::Issue { quote, claim } => {
                RequestShape::Issue { v: VERSION, quote: units::hex32(&quote), sig: claim.to_string() }
            }
        }
    }
}

impl TryFrom<RequestShape> for Request {
    type Error = Unreadable;

    fn try_from(shape: RequestShape) -> Result<Request, Unreadable> {
        match shape {
            RequestShape::Quote { v, keyset, k, client, outputs, method } => {
                if v != VERSION || method != "bolt11" || k != outputs.len() || !(1..=BATCH_MAX).contains(&k) {
                    return Err(Unreadable("order"));
                }
                let points = outputs.iter().map(|text| public_key(text)).collect::<Result<Vec<_>, _>>()?;
                let each = points.iter().collect::<std::collections::BTreeSet<_>>();
                if each.len() != k {
                    return Err(Unreadable("order: the same output twice"));
                }
                Ok(Request::Quote(Order { keyset: keyset.parse()?, client: public_key(&client)?, outputs: points }))
            }
            RequestShape::Issue { v, quote, sig } => {
                let claim = hex::<64>(&sig).and_then(|bytes| Signature::from_slice(&bytes).ok());
                let (Some(quote), Some(claim), VERSION) = (hex(&quote), claim, v) else {
                    return Err(Unreadable("claim"));
                };
                Ok(Request::Issue { quote, claim })
            }
        }
    }
}

impl From<Answer> for AnswerShape {
    fn from(answer: Answer) -> AnswerShape {
        match answer {
            Answer::Unpaid { quote, invoice, commitment, expiry } => AnswerShape::Unpaid {
                v: VERSION,
                quote: units::hex32(&quote),
                request: invoice,
                commit: units::hex32(&commitment),
                expiry: expiry.0,
            },
            Answer::Issued { quote, signatures } => {
                AnswerShape::Issued { v: VERSION, quote: units::hex32(&quote), sigs: signatures }
            }
            Answer::Refused(reason) => AnswerShape::Refused { v: VERSION, reason },
        }
    }
}

impl TryFrom<AnswerShape> for Answer {
    type Error = Unreadable;

    fn try_from(shape: AnswerShape) -> Result<Answer, Unreadable> {
        let name = |text: &str| hex::<32>(text).ok_or(Unreadable("answer"));
        let (v, answer) = match shape {
            AnswerShape::Unpaid { v, quote, request, commit, expiry } => {
                let (quote, commitment) = (name(&quote)?, name(&commit)?);
                (v, Answer::Unpaid { quote, invoice: request, commitment, expiry: Unix(expiry) })
            }
            AnswerShape::Issued { v, quote, sigs } if sigs.len() <= BATCH_MAX => {
                (v, Answer::Issued { quote: name(&quote)?, signatures: sigs })
            }
            AnswerShape::Issued { .. } => return Err(Unreadable("answer")),
            AnswerShape::Refused { v, mut reason } => {
                reason.truncate(reason.floor_char_boundary(REASON_MAX));
                (v, Answer::Refused(reason))
            }
        };
        if v == VERSION { Ok(answer) } else { Err(Unreadable("answer of another version")) }
    }
}
