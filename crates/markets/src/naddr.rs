//! The address of an event as Nostr clients open it: `naddr1…` (NIP-19).

use bech32::{Bech32, Hrp};

use crate::Advert;

/// Types of NIP-19's entries.
const NAME: u8 = 0;
const AUTHOR: u8 = 2;
const KIND: u8 = 3;

impl Advert {
    /// `naddr1…`, which names the advert in whichever version is the newest; none when its name is too long for one.
    pub fn naddr(&self) -> Option<String> {
        let mut data = vec![NAME, u8::try_from(self.d.len()).ok()?];
        data.extend(self.d.as_bytes());
        data.extend([AUTHOR, 32]);
        data.extend(self.author.0);
        data.extend([KIND, 4]);
        data.extend(u32::from(self.kind).to_be_bytes());
        bech32::encode::<Bech32>(Hrp::parse("naddr").ok()?, &data).ok()
    }
}
