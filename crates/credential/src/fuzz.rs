//! What strangers say about credentials, for a fuzzer: nothing may panic, and what is read survives being written and read again.

use crate::keyset::Keyset;
use crate::quote::{Answer, Request};
use crate::stamp::Stamp;

/// [`Request`], [`Answer`], [`Stamp`] and [`Keyset::from_tag`] (the elements of the tag a line each).
pub fn said(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(request) = serde_json::from_str::<Request>(text) {
        let written = serde_json::to_string(&request).expect("a request is JSON");
        assert_eq!(serde_json::from_str::<Request>(&written).ok(), Some(request));
    }
    if let Ok(answer) = serde_json::from_str::<Answer>(text) {
        let written = serde_json::to_string(&answer).expect("an answer is JSON");
        assert_eq!(serde_json::from_str::<Answer>(&written).ok(), Some(answer));
    }
    if let Ok(stamp) = text.parse::<Stamp>() {
        assert_eq!(stamp.to_string(), text);
    }
    let tag: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(keyset) = Keyset::from_tag(&tag) {
        assert_eq!(Keyset::from_tag(&keyset.to_tag()), Ok(keyset));
    }
}
