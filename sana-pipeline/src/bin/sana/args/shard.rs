//! A share of the work, for several machines.

use std::fmt;
use std::str::FromStr;

/// One of N shares of a list of items, written `1/N` to `N/N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: usize,
    count: usize,
}

impl Default for Shard {
    /// All items.
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        text.split_once('/')
            .and_then(|(index, count)| number(index).zip(number(count)))
            .filter(|(index, count)| (1..=*count).contains(index))
            .map(|(index, count)| Self {
                index: index - 1,
                count,
            })
            .ok_or_else(|| "expected I/N, from 1/N to N/N, such as 2/4".to_owned())
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl Shard {
    /// Which one it is, from 1.
    pub fn number(self) -> usize {
        self.index + 1
    }

    /// How many shares there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// Every N-th item, with its index among all: shares differ by one item at most.
    pub fn of<T>(self, items: &[T]) -> impl Iterator<Item = (usize, &T)> {
        let all = items.iter().enumerate();
        all.skip(self.index).step_by(self.count)
    }

    /// Whether it is all items.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_all_items_once() {
        let items = [10, 11, 12, 13];
        for count in 1..6 {
            let mut found = Vec::new();
            for index in 1..=count {
                let text = format!("{index}/{count}");
                let shard: Shard = text.parse().unwrap();
                assert_eq!(shard.to_string(), text);
                assert_eq!(shard.is_whole(), count == 1);
                found.extend(shard.of(&items).map(|(at, item)| (at, *item)));
            }
            found.sort_unstable();
            assert_eq!(found, [(0, 10), (1, 11), (2, 12), (3, 13)], "{count}");
        }
        assert_eq!("1/1".parse(), Ok(Shard::default()));
        for text in ["", "1", "0/2", "3/2", "1/0", "-1/2", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
