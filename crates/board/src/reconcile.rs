//! Set reconciliation (NIP-77), the part that only computes: a set of events, and one step of the protocol over it.

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use units::Unix;

mod set;

pub use set::Set;

/// Longest message that we write, in bytes; twice as many characters of hex. Relays take frames of 128 KiB and more.
pub const MESSAGE_MAX: usize = 60_000;

/// What names an event in a set: its time and its id.
pub type Item = (Unix, [u8; 32]);

/// Why a reconciliation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// `prefix: text` (NIP-77).
    pub message: String,
    /// Most events of a set, when there were more.
    pub max: Option<u64>,
}

impl Broken {
    /// For a reason that has no number.
    pub fn because(message: impl Into<String>) -> Broken {
        Broken { message: message.into(), max: None }
    }

    /// More than `max` events match.
    pub fn too_many(max: usize) -> Broken {
        let message = format!("blocked: this query is too big, it may match {max} events");
        Broken { message, max: Some(max as u64) }
    }
}

/// A message as frames carry it: lowercase hex.
pub fn to_hex(message: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    message.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The message in a frame; none when it is no hex.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

impl Set {
    /// Begins to reconcile it with the set of another side.
    pub fn begin(self) -> Result<(Initiator, Vec<u8>), Broken> {
        let broken = |why: negentropy::Error| Broken::because(format!("error: {why}"));
        let mut storage = NegentropyStorageVector::with_capacity(self.items().len());
        for (at, id) in self.items() {
            storage.insert(at.0, Id::from_byte_array(*id)).map_err(broken)?;
        }
        storage.seal().map_err(broken)?;
        let mut initiator = Initiator(Negentropy::owned(storage, MESSAGE_MAX as u64).map_err(broken)?);
        let message = initiator.0.initiate().map_err(broken)?;
        Ok((initiator, message))
    }
}

/// The side that began, and that learns what either lacks.
#[derive(Debug)]
pub struct Initiator(Negentropy<'static, NegentropyStorageVector>);

/// What the side that began learned from an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// We have them, the other side does not.
    pub have: Vec<[u8; 32]>,
    /// The other side has them, we do not.
    pub need: Vec<[u8; 32]>,
    /// What to say next; nothing more to say when `None`.
    pub next: Option<Vec<u8>>,
}

impl Initiator {
    /// Takes in an answer.
    pub fn learn(&mut self, answer: &[u8]) -> Result<Learned, Broken> {
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = self.0.reconcile_with_ids(answer, &mut have, &mut need);
        let next = next.map_err(|why| Broken::because(format!("invalid: {why}")))?;
        let plain = |ids: Vec<Id>| ids.into_iter().map(Id::to_bytes).collect();
        Ok(Learned { have: plain(have), need: plain(need), next })
    }
}
