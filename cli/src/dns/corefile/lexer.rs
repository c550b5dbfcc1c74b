//! The words of a Corefile, as CoreDNS reads them, and where they stand.

use std::ops::Range;

/// A word: its text without quotes, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it says.
    pub text: String,
    /// Its bytes in the file, quotes included.
    pub place: Range<usize>,
    /// The line that it begins in, from 1.
    pub line: usize,
    /// The line that it ends in; words in quotes may have several.
    pub last_line: usize,
}

/// The words of a text, or the line in which a quotation begins that does not end.
pub fn tokens(text: &str) -> Result<Vec<Token>, usize> {
    // A mark of the byte order at the start is no word.
    let begin = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut lexer = Lexer { text, at: begin, line: 1 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Lexer<'_> {
    fn take(&mut self) -> Option<char> {
        let character = self.text.get(self.at..)?.chars().next()?;
        self.at += character.len_utf8();
        if character == '\n' {
            self.line += 1;
        }
        Some(character)
    }

    fn token(&mut self) -> Result<Option<Token>, usize> {
        let mut comment = false;
        let mut word: Option<Token> = None;
        loop {
            let (start, line) = (self.at, self.line);
            let Some(character) = self.take() else { return Ok(word) };
            if character == '\r' {
                continue;
            }
            if character.is_whitespace() {
                // A comment ends with its line; a word ends it as well if it began in that word.
                comment &= character != '\n';
                if word.is_some() {
                    return Ok(word);
                }
                continue;
            }
            comment |= character == '#';
            if comment {
                continue;
            }
            match &mut word {
                None if character == '"' => return self.quoted(start, line).map(Some),
                None => {
                    let text = character.to_string();
                    word = Some(Token { text, place: start..self.at, line, last_line: line });
                }
                Some(word) => {
                    word.text.push(character);
                    word.place.end = self.at;
                }
            }
        }
    }

    /// The rest of a quotation, in which only quotes can be escaped.
    fn quoted(&mut self, start: usize, line: usize) -> Result<Token, usize> {
        let mut text = String::new();
        let mut escaped = false;
        while let Some(character) = self.take() {
            match character {
                '"' if !escaped => {
                    return Ok(Token { text, place: start..self.at, line, last_line: self.line });
                }
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                other => {
                    if escaped && other != '"' {
                        text.push('\\');
                    }
                    text.push(other);
                }
            }
            escaped = false;
        }
        Err(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).expect("words").into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_quotes_and_line_ends() {
        assert_eq!(words("a b # c d\r\n  e"), ["a", "b", "e"]);
        assert_eq!(words("\u{feff}a \"b c\" \"\\\"\" \"\\d\" \"\""), ["a", "b c", "\"", "\\d", ""]);
        assert_eq!(words("a#b\nc{ {$X}"), ["a", "c{", "{$X}"]);
        assert_eq!(words("  \n # only\n"), [] as [&str; 0]);
        assert_eq!(tokens("a\n\"b"), Err(2));
    }

    #[test]
    fn places_are_those_of_the_file() {
        let text = "a \"b\nc\" d\r\n";
        let found = tokens(text).expect("words");
        let slices: Vec<&str> = found.iter().map(|t| &text[t.place.clone()]).collect();
        assert_eq!(slices, ["a", "\"b\nc\"", "d"]);
        let lines: Vec<_> = found.iter().map(|t| (t.line, t.last_line)).collect();
        assert_eq!(lines, [(1, 1), (1, 2), (2, 2)]);
    }
}
