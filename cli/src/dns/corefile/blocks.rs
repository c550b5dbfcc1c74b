//! The server blocks of a Corefile and the plugins in them.

use std::ops::Range;

use super::Misfit;
use super::lexer::{Token, tokens};

/// A Corefile.
#[derive(Debug)]
pub struct Corefile {
    /// Its words.
    pub tokens: Vec<Token>,
    /// Its blocks, snippets included, in order.
    pub blocks: Vec<Block>,
}

/// A server block, or a snippet.
#[derive(Debug)]
pub struct Block {
    /// Its keys: zones with their transports and ports, as words of the file.
    pub keys: Vec<usize>,
    /// The plugins in it, in order.
    pub plugins: Vec<Range<usize>>,
    /// Whether it is a snippet, which counts where it is imported.
    pub snippet: bool,
}

impl Corefile {
    /// Reads a Corefile as CoreDNS does. What it imports is not looked at.
    pub fn read(text: &str) -> Result<Self, Misfit> {
        let tokens = tokens(text).map_err(Misfit::Quote)?;
        let mut reader = Reader { tokens: &tokens, at: 0 };
        let mut blocks = Vec::new();
        while let Some(block) = reader.block()? {
            blocks.push(block);
        }
        Ok(Self { tokens, blocks })
    }

    /// A plugin's name.
    pub fn name(&self, plugin: &Range<usize>) -> &str {
        self.tokens.get(plugin.start).map_or("", |token| &token.text)
    }

    /// The plugins of a name in a block.
    pub fn named<'a>(
        &'a self,
        block: &'a Block,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Range<usize>> {
        block.plugins.iter().filter(move |plugin| self.name(plugin) == name)
    }
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    fn text(&self, at: usize) -> Option<&str> {
        self.tokens.get(at).map(|token| token.text.as_str())
    }

    /// Whether a word is the first one of its line.
    fn begins_line(&self, at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        match (before, self.tokens.get(at)) {
            (Some(before), Some(token)) => before.last_line < token.line,
            (None, _) => true,
            (_, None) => false,
        }
    }

    fn line(&self, at: usize) -> usize {
        self.tokens.get(at).or(self.tokens.last()).map_or(1, |token| token.line)
    }

    /// `import` and its argument at the start of a line.
    fn skips_import(&mut self) -> bool {
        let import = self.text(self.at) == Some("import") && self.begins_line(self.at);
        if import {
            self.at += 2;
        }
        import
    }

    fn block(&mut self) -> Result<Option<Block>, Misfit> {
        while self.skips_import() {}
        if self.at >= self.tokens.len() {
            return Ok(None);
        }
        let keys = self.keys()?;
        let snippet = match keys.as_slice() {
            [only] => self.text(*only).is_some_and(|k| k.starts_with('(') && k.ends_with(')')),
            _ => false,
        };
        Ok(Some(Block { keys, plugins: self.plugins()?, snippet }))
    }

    /// The keys of a block, and its opening brace. After a comma another key may be on the next line.
    fn keys(&mut self) -> Result<Vec<usize>, Misfit> {
        let first = self.at;
        let mut more = true;
        while let Some(text) = self.text(self.at) {
            if text == "{" {
                break;
            }
            if self.at > first && !more && self.begins_line(self.at) {
                return Err(Misfit::NoBraces(self.line(first)));
            }
            more = text.ends_with(',');
            self.at += 1;
        }
        if self.text(self.at).is_none() || first == self.at {
            return Err(Misfit::NoBraces(self.line(first)));
        }
        if more {
            return Err(Misfit::Braces(self.line(self.at)));
        }
        self.at += 1;
        Ok((first..self.at - 1).collect())
    }

    /// The plugins of a block, and its closing brace.
    fn plugins(&mut self) -> Result<Vec<Range<usize>>, Misfit> {
        let mut plugins = Vec::new();
        loop {
            if self.skips_import() {
                continue;
            }
            match self.text(self.at) {
                None => return Err(Misfit::Braces(self.line(self.at))),
                Some("}") => {
                    self.at += 1;
                    return Ok(plugins);
                }
                Some("{") => return Err(Misfit::Braces(self.line(self.at))),
                Some(_) => plugins.push(self.plugin()?),
            }
        }
    }

    /// A plugin to the end of its line, or of its own block.
    fn plugin(&mut self) -> Result<Range<usize>, Misfit> {
        let start = self.at;
        let mut depth = 0_usize;
        self.at += 1;
        while let Some(text) = self.text(self.at) {
            match text {
                "{" => depth += 1,
                _ if depth == 0 && self.begins_line(self.at) => break,
                "}" if depth == 0 => return Err(Misfit::Braces(self.line(self.at))),
                "}" => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
        if depth > 0 {
            return Err(Misfit::Braces(self.line(start)));
        }
        Ok(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let file = Corefile::read(text).expect("a Corefile");
        let word = |at: &usize| file.tokens[*at].text.clone();
        file.blocks
            .iter()
            .map(|block| {
                let keys: Vec<String> = block.keys.iter().map(word).collect();
                let names: Vec<&str> = block.plugins.iter().map(|p| file.name(p)).collect();
                format!("{} [{}] {}", keys.join(" "), names.join(" "), block.snippet)
            })
            .collect()
    }

    #[test]
    fn blocks_snippets_and_imports() {
        let text = "import /etc/a/*.x\n(s) {\n  errors\n}\na:53,\nb:53 c {\n  import s\n  cache 30 {\n    \
                    denial 5\n  }\n  kubernetes x {\n  }\n}\n. {\n}\n";
        assert_eq!(
            shown(text),
            ["(s) [errors] true", "a:53, b:53 c [cache kubernetes] false", ". [] false"]
        );
        assert_eq!(shown("# nothing\n"), [] as [&str; 0]);
    }

    #[test]
    fn what_is_no_corefile_is_refused_with_its_line() {
        for (text, misfit) in [
            (".\nkubernetes x\n", Misfit::NoBraces(1)),
            ("\n. {\n errors\n", Misfit::Braces(3)),
            (". {\n a {\n", Misfit::Braces(2)),
            (". {\n a }\n}\n", Misfit::Braces(2)),
            (". {\n}\n}\n", Misfit::NoBraces(3)),
            ("a, {\n}\n", Misfit::Braces(1)),
            ("{\n}\n", Misfit::NoBraces(1)),
            (". {\n \"x\n}\n", Misfit::Quote(2)),
        ] {
            assert_eq!(Corefile::read(text).err(), Some(misfit), "{text:?}");
        }
    }
}
