//! BIP-39 words to the keys of every role.

use bip39::Mnemonic;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv};
use bitcoin::key::Secp256k1;
use bitcoin::{Network, NetworkKind};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// The NIP-06 account that Souk's Nostr keys live under.
pub const NOSTR_ACCOUNT: u32 = 38383;
/// The NIP-06 account of the key under which we keep our own trade log on boards.
pub const VAULT_ACCOUNT: u32 = 38384;
/// The NIP-06 account of the key that a board speaks with.
pub const BOARD_ACCOUNT: u32 = 38385;

/// Purpose of the child that seeds LDK.
const LDK_PURPOSE: u32 = 535;
const ESCROW_INFO: &[u8] = b"souk/escrow/v1";
const DATA_INFO: &[u8] = b"souk/data/v1";
const KEYSETS_INFO: &[u8] = b"souk/keysets/v1";
const CREDENTIALS_INFO: &[u8] = b"souk/credentials/v1";

/// Why words or an index are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// The words are not a BIP-39 mnemonic. Which word is wrong is not told: the answer could end up in a log.
    #[error("not a BIP-39 mnemonic: 12, 15, 18, 21 or 24 English words with a valid checksum")]
    Words,
    /// Key indices are below 2^31 (BIP-32).
    #[error("key index {0} is not below 2^31")]
    Index(u32),
}

/// A BIP-39 seed with the words that it came from. It has no `Debug` and is wiped when dropped.
pub struct Seed {
    words: Zeroizing<String>,
    passphrase: Zeroizing<String>,
    bytes: Zeroizing<[u8; 64]>,
}

impl Seed {
    /// A new seed of 24 words from 32 bytes of the caller's best entropy.
    pub fn generate(entropy: &[u8; 32]) -> Seed {
        let mnemonic = Mnemonic::from_entropy(entropy).expect("32 bytes are a valid BIP-39 entropy length");
        Seed::from_mnemonic(mnemonic, "")
    }

    /// The seed of a written-down mnemonic (English word list) and its BIP-39 passphrase, usually empty.
    pub fn from_words(words: &str, passphrase: &str) -> Result<Seed, SeedError> {
        let mnemonic = Mnemonic::parse_in(bip39::Language::English, words).map_err(|_| SeedError::Words)?;
        Ok(Seed::from_mnemonic(mnemonic, passphrase))
    }

    fn from_mnemonic(mut mnemonic: Mnemonic, passphrase: &str) -> Seed {
        let seed = Seed {
            words: Zeroizing::new(mnemonic.to_string()),
            passphrase: Zeroizing::new(passphrase.to_owned()),
            bytes: Zeroizing::new(mnemonic.to_seed(passphrase)),
        };
        mnemonic.zeroize();
        seed
    }

    /// The words, to be shown once to the owner and never logged.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The BIP-39 passphrase ("25th word"), usually empty.
    pub fn passphrase(&self) -> &str {
        &self.passphrase
    }

    /// The 64 bytes of BIP-39.
    pub fn expose(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// The BIP-32 master key `m`, for a wallet that derives its own account (BIP-86) and needs the fingerprint of `m`.
    pub fn master(&self, network: Network) -> Xpriv {
        Xpriv::new_master(NetworkKind::from(network), self.bytes.as_slice()).expect("HMAC of a seed is a valid key")
    }

    /// The 32 bytes that LDK's `KeysManager` starts from: the private key of `m/535'`. The same on every network.
    pub fn lightning(&self) -> Zeroizing<[u8; 32]> {
        self.child(&[hardened(LDK_PURPOSE)])
    }

    /// Souk's Nostr secret key number `index` (NIP-06, account 38383). Index 0 is the identity, the rest are for trades.
    pub fn nostr(&self, index: u32) -> Result<Zeroizing<[u8; 32]>, SeedError> {
        self.nostr_at(NOSTR_ACCOUNT, index)
    }

    /// The NIP-06 key `m/44'/1237'/account'/0/index`, for example account 0 to use an existing identity.
    pub fn nostr_at(&self, account: u32, index: u32) -> Result<Zeroizing<[u8; 32]>, SeedError> {
        let account_step = ChildNumber::from_hardened_idx(account).map_err(|_| SeedError::Index(account))?;
        let index_step = ChildNumber::from_normal_idx(index).map_err(|_| SeedError::Index(index))?;
        Ok(self.child(&[hardened(44), hardened(1237), account_step, ChildNumber::Normal { index: 0 }, index_step]))
    }

    /// The Nostr secret key to which our own trade log is sealed on boards. Nothing links it to the identity or to a trade.
    pub fn vault(&self) -> Result<Zeroizing<[u8; 32]>, SeedError> {
        self.nostr_at(VAULT_ACCOUNT, 0)
    }

    /// The key that escrow secrets are derived from.
    pub fn escrow(&self) -> Zeroizing<[u8; 32]> {
        self.expand(ESCROW_INFO)
    }

    /// The key that files and backups are encrypted under.
    pub fn data(&self) -> Zeroizing<[u8; 32]> {
        self.expand(DATA_INFO)
    }

    /// The Nostr secret key that our own board speaks with: `self` of its information document (NIP-11).
    pub fn board(&self) -> Result<Zeroizing<[u8; 32]>, SeedError> {
        self.nostr_at(BOARD_ACCOUNT, 0)
    }

    /// The key that the keysets of our own board are derived from.
    pub fn keysets(&self) -> Zeroizing<[u8; 32]> {
        self.expand(KEYSETS_INFO)
    }

    /// The key that the credentials which we buy are derived from.
    pub fn credentials(&self) -> Zeroizing<[u8; 32]> {
        self.expand(CREDENTIALS_INFO)
    }

    fn child(&self, path: &[ChildNumber]) -> Zeroizing<[u8; 32]> {
        let mut key = self
            .master(Network::Bitcoin)
            .derive_priv(&Secp256k1::new(), &DerivationPath::from(path))
            .expect("derivation of a private key fails with probability 2^-127");
        let secret = Zeroizing::new(key.private_key.secret_bytes());
        key.private_key.non_secure_erase();
        secret
    }

    fn expand(&self, info: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.bytes.as_slice())
            .expand(info, key.as_mut_slice())
            .expect("32 bytes are a valid HKDF-SHA256 output length");
        key
    }
}

fn hardened(index: u32) -> ChildNumber {
    ChildNumber::Hardened { index }
}

#[cfg(test)]
mod tests {
    use bitcoin::Address;
    use bitcoin::hex::DisplayHex;

    use super::*;

    const ABANDON: &str =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

    /// Three of the vectors of BIP-39 (passphrase TREZOR): entropy, words, seed.
    #[test]
    fn words_give_the_seeds_of_bip39() {
        let vectors = [
            (
                ABANDON,
                "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
            ),
            (
                "legal winner thank year wave sausage worth useful legal winner thank yellow",
                "2e8905819b8723fe2c1d161860e5ee1830318dbf49a83bd451cfb8440c28bd6fa457fe1296106559a3c80937a1c1069be3a3a5bd381ee6260e8d9739fce1f607",
            ),
            (
                "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold",
                "01f5bced59dec48e362f2c45b5de68b9fd6c92c6634f44d6d40aab69056506f0e35524a518034ddc1192e1dacd32c1ed3eaa3c3b131c88ed8e7e54c49a5d0998",
            ),
        ];
        for (words, seed) in vectors {
            let made = Seed::from_words(words, "TREZOR").unwrap();
            assert_eq!(made.expose().to_lower_hex_string(), seed);
            assert_eq!(made.words(), words);
        }
    }

    #[test]
    fn entropy_gives_the_words_of_bip39() {
        let zero = Seed::generate(&[0; 32]);
        assert_eq!(zero.words(), format!("{}art", "abandon ".repeat(23)));
        let ones = Seed::generate(&[0xff; 32]);
        assert_eq!(ones.words(), format!("{}vote", "zoo ".repeat(23)));
    }

    #[test]
    fn a_wrong_checksum_or_a_foreign_word_is_refused() {
        assert_eq!(Seed::from_words(&"abandon ".repeat(12), "").err(), Some(SeedError::Words));
        assert_eq!(Seed::from_words("souk souk souk", "").err(), Some(SeedError::Words));
        assert_eq!(Seed::from_words("", "").err(), Some(SeedError::Words));
    }

    /// BIP-86 test vector: first receiving and first change address of account 0.
    #[test]
    fn the_wallet_path_is_that_of_bip86() {
        let secp = Secp256k1::new();
        let seed = Seed::from_words(ABANDON, "").unwrap();
        for (path, address) in [
            ("m/86'/0'/0'/0/0", "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"),
            ("m/86'/0'/0'/1/0", "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"),
        ] {
            let path: DerivationPath = path.parse().unwrap();
            let key = seed.master(Network::Bitcoin).derive_priv(&secp, &path).unwrap();
            let (internal, _) = key.private_key.x_only_public_key(&secp);
            assert_eq!(Address::p2tr(&secp, internal, None, Network::Bitcoin).to_string(), address);
        }
    }

    /// The two test vectors of NIP-06 (account 0).
    #[test]
    fn nostr_keys_are_those_of_nip06() {
        for (words, key) in [
            (
                "leader monkey parrot ring guide accident before fence cannon height naive bean",
                "7f7ff03d123792d6ac594bfa67bf6d0c0ab55b6b1fdb6249303fe861f1ccba9a",
            ),
            (
                "what bleak badge arrange retreat wolf trade produce cricket blur garlic valid proud rude strong choose busy staff weather area salt hollow arm fade",
                "c15d739894c81a2fcfd3a2df85a0d2c0dbc47a280d092799f144d73d7ae78add",
            ),
        ] {
            let seed = Seed::from_words(words, "").unwrap();
            assert_eq!(seed.nostr_at(0, 0).unwrap().to_lower_hex_string(), key);
            assert_ne!(*seed.nostr(0).unwrap(), *seed.nostr_at(0, 0).unwrap());
            assert_eq!(*seed.nostr(7).unwrap(), *seed.nostr_at(38383, 7).unwrap());
        }
    }

    #[test]
    fn an_index_that_would_be_hardened_is_refused() {
        let seed = Seed::generate(&[1; 32]);
        assert_eq!(seed.nostr(1 << 31).err(), Some(SeedError::Index(1 << 31)));
        assert!(seed.nostr((1 << 31) - 1).is_ok());
    }

    #[test]
    fn every_purpose_has_its_own_key_on_every_network_the_same() {
        let seed = Seed::generate(&[2; 32]);
        let keys = [
            *seed.lightning(),
            *seed.escrow(),
            *seed.data(),
            *seed.nostr(0).unwrap(),
            *seed.nostr(1).unwrap(),
            *seed.vault().unwrap(),
            *seed.board().unwrap(),
            *seed.keysets(),
            *seed.credentials(),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b));
        }
        let path: DerivationPath = "m/535'".parse().unwrap();
        for network in [Network::Bitcoin, Network::Regtest] {
            let child = seed.master(network).derive_priv(&Secp256k1::new(), &path).unwrap();
            assert_eq!(child.private_key.secret_bytes(), *seed.lightning());
        }
    }

    /// Computed once with an independent HKDF (RFC 5869) from the BIP-39 seed of the first vector: these must never change,
    /// or backups and trades of existing seeds could no longer be opened.
    #[test]
    fn derived_secrets_never_change() {
        let seed = Seed::from_words(ABANDON, "").unwrap();
        assert_eq!(
            seed.escrow().to_lower_hex_string(),
            "ca5790bbbb563b69f204f09aa7b01022f7b69e004a1955939c13429de9e6bf7e"
        );
        assert_eq!(
            seed.data().to_lower_hex_string(),
            "b3dfcb9bd46ca35dda204081b087d26e0b4a5717d2070ec408cb9889e7c9bec1"
        );
        assert_eq!(
            seed.keysets().to_lower_hex_string(),
            "92c2aacc967c4bfea2abf6919da42f61f28736f6b6765762688d1232ac7261d0"
        );
        assert_eq!(
            seed.credentials().to_lower_hex_string(),
            "d8200bc9d25ab8d8a6214e45ec0df0f8bd3dbcdd03d31f738dd4f91fe99e366a"
        );
        assert_eq!(
            seed.lightning().to_lower_hex_string(),
            "c96114ce94bbf16740006888a2e6bf500dfb42eefe6d1a6de83a513addfb75be"
        );
    }
}
