//! Texts and lists of texts by number: millions of items share few creators, fewer sets of
//! categories, and a handful of sets of languages and countries.

use std::collections::HashMap;
use std::sync::Arc;

/// The number of the empty text, and of the empty list.
pub(super) const EMPTY: u32 = 0;

/// Texts by number. What is no longer used stays: the values of a platform's fields are few next
/// to its items, and come back.
pub(super) struct Names {
    symbols: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    text_bytes: usize,
}

impl Default for Names {
    fn default() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self { symbols: HashMap::from([(empty.clone(), EMPTY)]), texts: vec![empty], text_bytes: 0 }
    }
}

impl Names {
    pub(super) fn symbol(&mut self, text: &str) -> u32 {
        if let Some(symbol) = self.symbols.get(text) {
            return *symbol;
        }
        // 2^32 distinct texts would need terabytes first.
        let symbol = self.texts.len() as u32;
        let text: Arc<str> = text.into();
        self.text_bytes += text.len();
        self.texts.push(text.clone());
        self.symbols.insert(text, symbol);
        symbol
    }

    pub(super) fn text(&self, symbol: u32) -> &str {
        &self.texts[symbol as usize]
    }

    /// Text, its counts, two pointers and a table entry.
    pub(super) fn bytes(&self) -> usize {
        self.text_bytes + self.texts.len() * (16 + 16 + 16 + 4 + 8)
    }
}

/// Lists of texts by number; lists that hold the same texts in the same order are one.
pub(super) struct Lists {
    names: Names,
    symbols: HashMap<Arc<[u32]>, u32>,
    lists: Vec<Arc<[u32]>>,
    entries: usize,
}

impl Default for Lists {
    fn default() -> Self {
        let empty: Arc<[u32]> = Arc::from([]);
        Self {
            names: Names::default(),
            symbols: HashMap::from([(empty.clone(), EMPTY)]),
            lists: vec![empty],
            entries: 0,
        }
    }
}

impl Lists {
    pub(super) fn symbol(&mut self, texts: &[String]) -> u32 {
        let list: Vec<u32> = texts.iter().map(|text| self.names.symbol(text)).collect();
        if let Some(symbol) = self.symbols.get(list.as_slice()) {
            return *symbol;
        }
        let symbol = self.lists.len() as u32;
        let list: Arc<[u32]> = list.into();
        self.entries += list.len();
        self.lists.push(list.clone());
        self.symbols.insert(list, symbol);
        symbol
    }

    pub(super) fn texts(&self, symbol: u32) -> impl ExactSizeIterator<Item = &str> {
        self.lists[symbol as usize].iter().map(|name| self.names.text(*name))
    }

    /// The numbers of a list's texts.
    pub(super) fn words(&self, symbol: u32) -> &[u32] {
        &self.lists[symbol as usize]
    }

    /// The text of one of them.
    pub(super) fn word(&self, word: u32) -> &str {
        self.names.text(word)
    }

    pub(super) fn bytes(&self) -> usize {
        self.names.bytes() + self.entries * 4 + self.lists.len() * (16 + 16 + 16 + 4 + 8)
    }
}
