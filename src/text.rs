//! Characters that texts may not have.

/// Whether a character controls a terminal or turns the direction of text. The database has the same rule.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
