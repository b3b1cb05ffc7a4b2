//! What text may hold.

/// What a terminal obeys, and what turns the direction of the text that follows: as in the database.
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
