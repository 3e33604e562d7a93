//! Search over the text of listings (NIP-50): the words of a listing, a question of words, and the sum of words by which
//! listings that cannot match are passed over.
//!
//! A word is a run of letters and digits, folded: compatibility forms unified, accents dropped, lowercase. Where a script writes
//! no spaces, each of its characters is a word.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;
use wire::{Filter, RawEvent};

/// Kinds whose text is indexed: DOMP's listing, stalls and products (NIP-15), classified listings and their drafts (NIP-99),
/// orders of CivKit and of NIP-69.
pub(crate) const KINDS: [u16; 7] = [300, 30_017, 30_018, 30_402, 30_403, 32_500, 38_383];
/// Kinds whose content is a JSON object.
const JSON_KINDS: [u16; 3] = [300, 30_017, 30_018];
/// Members of such an object that are text for people.
const JSON_TEXT: [&str; 5] = ["product_name", "name", "title", "category", "description"];
/// Tags that are text for people, each with all its values.
const TAGS: [&str; 9] = ["title", "summary", "name", "t", "location", "f", "pm", "k", "y"];
/// Most words of one listing. Title, tags and summary come before the content.
const WORDS_MAX: usize = 96;
/// Longest text of one listing that is read, in bytes.
const TEXT_MAX: usize = 16 * 1024;
/// Longest word, in bytes. What is longer is an address, a key or an invoice.
const WORD_MAX: usize = 48;

/// A text without the marks by which people spell the same word in two ways.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let accents = '\u{300}'..='\u{36f}';
    text.nfkd().filter(|c| !accents.contains(c)).nfc().flat_map(char::to_lowercase).collect()
}

/// Characters of Chinese and Japanese.
fn spaceless(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

fn push_words(text: &str, words: &mut BTreeSet<String>) {
    let text = &text[..text.floor_char_boundary(TEXT_MAX)];
    let mut push = |word: &str| {
        if words.len() < WORDS_MAX && !words.contains(word) {
            words.insert(word.to_owned());
        }
    };
    for run in fold(text).split(|c: char| !c.is_alphanumeric()) {
        if run.chars().any(spaceless) {
            run.split_inclusive(spaceless)
                .flat_map(|part| {
                    let last =
                        part.char_indices().next_back().filter(|(_, c)| spaceless(*c)).map_or(part.len(), |(at, _)| at);
                    [&part[..last], &part[last..]]
                })
                .filter(|word| !word.is_empty())
                .for_each(&mut push);
        } else if (2..=WORD_MAX).contains(&run.len()) {
            push(run);
        }
    }
}

/// Whether the text of such events is searched.
pub(crate) fn listed(kind: u16) -> bool {
    KINDS.contains(&kind)
}

/// The words by which an event is found: none but for listings.
pub(crate) fn words(event: &RawEvent<'_>) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    if !listed(event.kind) {
        return words;
    }
    for mut tag in event.tags() {
        if tag.next().is_some_and(|name| TAGS.contains(&name.decode().as_ref())) {
            tag.for_each(|value| push_words(&value.decode(), &mut words));
        }
    }
    let content = event.content().decode();
    if !JSON_KINDS.contains(&event.kind) {
        push_words(&content, &mut words);
    } else if let Ok(object) = serde_json::from_str::<serde_json::Value>(&content) {
        let texts = JSON_TEXT.iter().filter_map(|name| object.get(name)?.as_str());
        texts.for_each(|text| push_words(text, &mut words));
    }
    words
}

/// Bits of a [`Sum`] that a word sets.
const WORD_BITS: u32 = 3;

/// A few bits for each word: a listing whose sum lacks a bit of a question's sum cannot match, any other may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum([u64; 8]);

impl Sum {
    /// The sum of these words.
    pub(crate) fn of<'a>(words: impl IntoIterator<Item = &'a String>) -> Sum {
        let mut sum = Sum::default();
        for word in words {
            // FNV-1a, then the finaliser of SplitMix64 to spread it over all bits.
            let mut hash = word
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash ^= hash >> 27;
            for i in 0..WORD_BITS {
                let bit = (hash >> (9 * i)) as usize & 511;
                sum.0[bit / 64] |= 1 << (bit % 64);
            }
        }
        sum
    }

    /// Every bit of `other` is set.
    pub(crate) fn covers(&self, other: &Sum) -> bool {
        self.0.iter().zip(&other.0).fold(0, |lacking, (mine, theirs)| lacking | (theirs & !mine)) == 0
    }
}

/// What somebody searches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// Nothing in particular: only extensions, of which we know none, and which we pass over.
    Anything,
    /// All of these words.
    Words(Vec<String>),
    /// Something that is in no index.
    Nothing,
}

/// Two words separated by a colon (NIP-50).
fn extension(token: &str) -> bool {
    token.split_once(':').is_some_and(|(key, value)| {
        !key.is_empty() && !value.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    })
}

impl Search {
    /// What a filter searches for, if it does.
    pub(crate) fn of(filter: &Filter) -> Option<Search> {
        let text = filter.search.as_deref()?;
        let plain: Vec<&str> = text.split_whitespace().filter(|token| !extension(token)).collect();
        if plain.is_empty() {
            return Some(Search::Anything);
        }
        let mut words = BTreeSet::new();
        push_words(&plain.join(" "), &mut words);
        Some(if words.is_empty() { Search::Nothing } else { Search::Words(words.into_iter().collect()) })
    }

    /// The event has what is searched for.
    pub(crate) fn matches(&self, event: &RawEvent<'_>) -> bool {
        match self {
            Search::Anything => true,
            Search::Nothing => false,
            Search::Words(wanted) => {
                let held = words(event);
                wanted.iter().all(|word| held.contains(word))
            }
        }
    }
}

/// The event has what the filter searches for, if it searches.
pub(crate) fn matches(filter: &Filter, event: &RawEvent<'_>) -> bool {
    filter.search.is_none() || Search::of(filter).is_none_or(|search| search.matches(event))
}

#[cfg(test)]
mod tests {
    use units::Unix;
    use wire::{Event, Limits};

    use super::*;

    fn listing(kind: u16, tags: &[&[&str]], content: &str) -> String {
        let tags = tags.iter().map(|tag| tag.iter().map(ToString::to_string).collect()).collect();
        let (id, pubkey, sig) = ([0; 32], [0; 32], [0; 64]);
        Event { id, pubkey, created_at: Unix(1), kind, tags, content: content.into(), sig }.to_json()
    }

    fn found(json: &str, search: &str) -> bool {
        let filter = Filter { search: Some(search.into()), ..Filter::default() };
        matches(&filter, &RawEvent::parse(json.as_bytes(), &Limits::RELAY).unwrap())
    }

    #[test]
    fn a_listing_is_found_by_all_words_of_its_text_however_they_are_spelled() {
        let lamp = listing(
            30_402,
            &[&["title", "Café LAMP, ﬁne"], &["t", "Möbel"], &["location", "東京"], &["price", "5", "EUR"]],
            "It's mid-century; 3 bulbs. Ёлка",
        );
        for search in
            ["lamp", "cafe lamp", "CAFÉ", "fine", "mobel mid century", "it's", "京", "елка", "lamp language:en"]
        {
            assert!(found(&lamp, search), "{search}");
        }
        for search in ["lam", "lamp chair", "eur", "3", "?", "lamp: chair"] {
            assert!(!found(&lamp, search), "{search}");
        }
        assert!(found(&lamp, "language:en include:spam") && found(&lamp, ""));
    }

    #[test]
    fn the_text_of_json_listings_is_what_people_read() {
        let lamp =
            listing(300, &[], r#"{"product_name":"Brass lamp","description":"old","storage_link":"ipfs://key"}"#);
        let stall = listing(30_017, &[], r#"{"name":"Lamps","currency":"sat"}"#);
        assert!(found(&lamp, "old brass") && !found(&lamp, "ipfs") && !found(&lamp, "product_name"));
        assert!(found(&stall, "lamps") && !found(&stall, "sat"));
        assert!(!found(&listing(300, &[], "not json"), "json"));
        assert!(!found(&listing(1, &[&["title", "lamp"]], "lamp"), "lamp"), "notes are not listings");
        let order = listing(38_383, &[&["k", "sell"], &["f", "VES"], &["pm", "face to face", "bank transfer"]], "");
        assert!(found(&order, "sell ves transfer"));
    }

    #[test]
    fn the_words_of_a_listing_are_bounded() {
        let many: String = (0..1000).map(|i| format!("word{i} ")).collect();
        let long = listing(30_402, &[&["title", "lamp"]], &format!("{} {many}", "x".repeat(49)));
        let raw = RawEvent::parse(long.as_bytes(), &Limits::RELAY).unwrap();
        assert_eq!(words(&raw).len(), WORDS_MAX);
        assert!(Sum::of(&words(&raw)).covers(&Sum::of(&["lamp".to_owned(), "word1".to_owned()])));
        assert!(found(&long, "lamp") && !found(&long, "word999") && !found(&long, &"x".repeat(49)));
    }
}
