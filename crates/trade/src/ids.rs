//! Names of things that parties sign and of the trades that they belong to.

use std::fmt;
use std::str::FromStr;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use units::{Bytes32Error, hex32, parse_hex32};

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex32(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = Bytes32Error;
            fn from_str(text: &str) -> Result<Self, Bytes32Error> {
                parse_hex32(text).map($name)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&hex32(&self.0))
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id! {
    /// Id of a message that its author signed (on Nostr: the event id).
    MessageId
}
hex_id! {
    /// Public key under which a party signs (BIP-340 x-only).
    PartyKey
}
hex_id! {
    /// Names one trade. Both sides compute it, nobody has to announce it: see [`TradeId::of`].
    TradeId
}

impl TradeId {
    /// The trade of the party `payer` on the listing `listing`. A payer uses a fresh key for each trade,
    /// so this is unique, and it is known before the bid is signed: the payer's secrets derive from it.
    pub fn of(listing: MessageId, payer: PartyKey) -> TradeId {
        let mut engine = sha256::Hash::engine();
        engine.input(b"souk/trade/v1");
        engine.input(&listing.0);
        engine.input(&payer.0);
        TradeId(sha256::Hash::from_engine(engine).to_byte_array())
    }

    /// The stream in the log that holds what `payee` lists under its own name `d`, all versions of it.
    pub fn of_stall(payee: PartyKey, d: &str) -> TradeId {
        let mut engine = sha256::Hash::engine();
        engine.input(b"souk/stall/v1");
        engine.input(&payee.0);
        engine.input(d.as_bytes());
        TradeId(sha256::Hash::from_engine(engine).to_byte_array())
    }
}
