//! Tags of an event whose every fact is a tag: each at most once, and none that is not known.

use units::parse_hex32;
use wire::event::Tag;

/// Tags that are not read yet. What is wrong is named by the tag.
pub(crate) struct Tags<'a>(Vec<&'a Tag>);

impl<'a> Tags<'a> {
    pub(crate) fn of(tags: &'a [Tag]) -> Result<Tags<'a>, &'static str> {
        let twice = tags.iter().enumerate().any(|(i, tag)| tags[..i].iter().any(|other| other[0] == tag[0]));
        if twice { Err("a tag twice") } else { Ok(Tags(tags.iter().collect())) }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<&'a Tag> {
        let at = self.0.iter().position(|tag| tag[0] == name)?;
        Some(self.0.remove(at))
    }

    pub(crate) fn value(&mut self, name: &'static str) -> Result<Option<&'a str>, &'static str> {
        match self.take(name).map(Vec::as_slice) {
            None => Ok(None),
            Some([_, value]) => Ok(Some(value)),
            Some(_) => Err(name),
        }
    }

    pub(crate) fn bytes(&mut self, name: &'static str) -> Result<Option<[u8; 32]>, &'static str> {
        self.value(name)?.map(parse_hex32).transpose().map_err(|_| name)
    }

    /// A number in plain decimal digits that has to be there.
    pub(crate) fn number(&mut self, name: &'static str, max: u64) -> Result<u64, &'static str> {
        number(self.value(name)?.ok_or(name)?, max).ok_or(name)
    }

    pub(crate) fn end(self) -> Result<(), &'static str> {
        if self.0.is_empty() { Ok(()) } else { Err("an unknown tag") }
    }
}

/// Decimal digits without a leading zero, at most `max`.
pub(crate) fn number(text: &str, max: u64) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|n| plain && *n <= max)
}

/// A tag with one value.
pub(crate) fn tag(name: &str, value: &str) -> Tag {
    vec![name.to_owned(), value.to_owned()]
}
