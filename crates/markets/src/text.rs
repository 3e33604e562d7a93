//! Text of strangers, made fit to be shown: bounded, on one line or several, without anything that steers a terminal.

/// May this character be shown? Control characters steer terminals; marks of direction and characters without width make a text
/// look like another one.
fn visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn cut(text: &str, chars_max: usize, keep: impl Fn(char) -> char) -> String {
    text.chars().map(keep).filter(|c| *c != '\0').take(chars_max).collect::<String>().trim().to_owned()
}

/// One line of at most `chars_max` characters.
pub fn line(text: &str, chars_max: usize) -> String {
    cut(text, chars_max, |c| match c {
        '\t' | '\n' | '\r' => ' ',
        c if visible(c) => c,
        _ => '\0',
    })
}

/// Lines of at most `chars_max` characters together.
pub fn lines(text: &str, chars_max: usize) -> String {
    cut(text, chars_max, |c| match c {
        '\t' => ' ',
        '\n' => '\n',
        c if visible(c) => c,
        _ => '\0',
    })
}

/// The text as it is laid out, without what may not be shown.
pub fn whole(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || visible(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_hides_is_taken_out() {
        assert_eq!(line("a\u{1b}[31mred\u{7}\u{9b}2J\u{202e}b\u{200b}\n\tc", 100), "a[31mred2Jb  c");
        assert_eq!(lines("one\r\n two\n", 100), "one\n two");
        assert_eq!(line("äöü€😀", 3), "äöü");
    }
}
