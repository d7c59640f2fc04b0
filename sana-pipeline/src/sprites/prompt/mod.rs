//! What captions mean.

mod caption;
mod parse;

use std::collections::{HashSet, VecDeque};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::backdrop::{Backdrop, PlainColor};
use super::error::SpriteError;
use super::sheet::SpriteSheet;
use crate::scenes::Relation;
use crate::support::fnv::{OFFSET, fnv1a};
pub use parse::SpriteCaption;

/// One combination in this many is kept out of training.
const HELD_OUT_ONE_IN: u64 = 10;
/// Draws without a new held-out prompt of a kind before the kind counts as exhausted.
const DRAWS_WITHOUT_NEWS: usize = 20_000;
/// Share of painted backdrops, the rest is plain.
const SCENERY: f64 = 0.75;
/// Most things that are counted.
const MOST: usize = 3;

/// The things that a caption names, by their numbers in the sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpriteContent {
    /// `a fox`
    One(usize),
    /// `two foxes`
    Several {
        /// Two or three.
        count: usize,
        /// What each of them is.
        thing: usize,
    },
    /// `a fox and a rocket`
    Pair(usize, usize),
    /// `a fox left of a rocket`
    Related(usize, Relation, usize),
}

/// What is tested by a prompt, and how often training shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    One,
    Several,
    Pair,
    Related,
}

impl Kind {
    const ALL: [Self; 4] = [Self::One, Self::Several, Self::Pair, Self::Related];
    /// Shares of training, of ten.
    const MIX: [usize; 4] = [4, 2, 1, 3];
}

impl SpriteContent {
    /// Every thing of the image, in the order in which the caption names them.
    pub fn things(&self) -> Vec<usize> {
        match *self {
            Self::One(thing) => vec![thing],
            Self::Several { count, thing } => vec![thing; count],
            Self::Pair(first, second) | Self::Related(first, _, second) => vec![first, second],
        }
    }

    /// Where the first of two things is, if the caption says so.
    pub fn relation(&self) -> Option<Relation> {
        match *self {
            Self::Related(_, relation, _) => Some(relation),
            _ => None,
        }
    }
}

/// What a caption means: its things and what is behind them.
///
/// Phrasing is no part of it: [`caption`](Self::caption) varies the phrasing, and
/// [`canonical`](Self::canonical) is the plainest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpritePrompt {
    backdrop: Backdrop,
    content: SpriteContent,
}

impl SpritePrompt {
    /// The prompt for these things of a sheet.
    ///
    /// # Errors
    /// For a thing that the sheet does not have, a number of things that is neither two nor three, one
    /// that has no plural, and a pair of the same.
    pub fn new(
        sheet: &SpriteSheet,
        backdrop: Backdrop,
        content: SpriteContent,
    ) -> Result<Self, SpriteError> {
        let things = sheet.things();
        for found in content.things() {
            if found >= things.len() {
                return Err(SpriteError::Thing {
                    found,
                    count: things.len(),
                });
            }
        }
        match content {
            SpriteContent::Several { count, thing } => {
                let name = &things[thing].name;
                let Some(plural) = &things[thing].plural else {
                    return Err(SpriteError::Uncountable {
                        thing: name.clone(),
                    });
                };
                if !(2..=MOST).contains(&count) {
                    return Err(SpriteError::Count {
                        thing: plural.clone(),
                        found: count,
                    });
                }
            }
            SpriteContent::Pair(first, second) | SpriteContent::Related(first, _, second)
                if first == second =>
            {
                return Err(SpriteError::Indistinct {
                    thing: things[first].name.clone(),
                });
            }
            _ => {}
        }
        Ok(Self { backdrop, content })
    }

    /// A random prompt for training: never held out. Four in ten have one thing, two several of one, one a
    /// pair and three a relation.
    pub fn sample_training<R: Rng + ?Sized>(sheet: &SpriteSheet, rng: &mut R) -> Self {
        loop {
            let mut share = rng.random_range(0..Kind::MIX.iter().sum::<usize>());
            let shares = Kind::ALL.into_iter().zip(Kind::MIX);
            let kind = shares
                .into_iter()
                .find(|(_, part)| match share.checked_sub(*part) {
                    Some(rest) => {
                        share = rest;
                        false
                    }
                    None => true,
                })
                .map_or(Kind::One, |(kind, _)| kind);
            let prompt = Self::sample(sheet, rng, kind);
            if !prompt.is_held_out(sheet) {
                return prompt;
            }
        }
    }

    /// `count` held-out prompts, the same for the same seed: a fourth each of one thing, several of one,
    /// pairs and relations, in turn. All ask for different images as long as there are that many; after
    /// that the list starts again. A sheet of very few things may have none: the list is then empty.
    pub fn held_out(sheet: &SpriteSheet, count: usize, seed: u64) -> Vec<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = HashSet::new();
        let mut distinct = Vec::new();
        // Kinds of which there are more, the next one first.
        let mut kinds = VecDeque::from(Kind::ALL);
        while let Some(kind) = kinds.pop_front().filter(|_| distinct.len() < count) {
            let new = (0..DRAWS_WITHOUT_NEWS)
                .map(|_| Self::sample(sheet, &mut rng, kind))
                .find(|prompt| prompt.is_held_out(sheet) && seen.insert(prompt.stable_hash(sheet)));
            if let Some(prompt) = new {
                distinct.push(prompt);
                kinds.push_back(kind);
            }
        }
        distinct.iter().copied().cycle().take(count).collect()
    }

    fn sample<R: Rng + ?Sized>(sheet: &SpriteSheet, rng: &mut R, kind: Kind) -> Self {
        let count = sheet.things().len();
        let backdrop = match rng.random_bool(SCENERY) {
            true => Backdrop::SCENERY[rng.random_range(0..Backdrop::SCENERY.len())],
            false => Backdrop::Plain(PlainColor::ALL[rng.random_range(0..PlainColor::ALL.len())]),
        };
        // A sheet of one thing has no pairs, and one of uncountable things no numbers.
        let kind = match kind {
            Kind::Pair | Kind::Related if count < 2 => Kind::One,
            Kind::Several if sheet.things().iter().all(|thing| thing.plural.is_none()) => Kind::One,
            kind => kind,
        };
        loop {
            let (first, second) = (rng.random_range(0..count), rng.random_range(0..count));
            let content = match kind {
                Kind::One => SpriteContent::One(first),
                Kind::Several => SpriteContent::Several {
                    count: rng.random_range(2..=MOST),
                    thing: first,
                },
                Kind::Pair => SpriteContent::Pair(first, second),
                Kind::Related => {
                    let relation = Relation::ALL[rng.random_range(0..Relation::ALL.len())];
                    SpriteContent::Related(first, relation, second)
                }
            };
            if let Ok(prompt) = Self::new(sheet, backdrop, content) {
                return prompt;
            }
        }
    }

    /// What is behind the things.
    pub fn backdrop(&self) -> Backdrop {
        self.backdrop
    }

    /// The things.
    pub fn content(&self) -> SpriteContent {
        self.content
    }

    /// FNV-1a (64 bit) of what is asked for, where prompts that ask for the same images have one form: `b and
    /// a` is `a and b`, and `b right of a` is `a left of b`. It depends on the names of the things
    /// alone, so it stays the same with a longer list or other plurals.
    pub fn stable_hash(&self, sheet: &SpriteSheet) -> u64 {
        let name = |thing: usize| &*sheet.things()[thing].name;
        let things = match self.content {
            SpriteContent::One(thing) => name(thing).to_owned(),
            SpriteContent::Several { count, thing } => format!("{count} {}", name(thing)),
            SpriteContent::Pair(first, second) => {
                let (first, second) = (name(first), name(second));
                format!("{} and {}", first.min(second), first.max(second))
            }
            SpriteContent::Related(
                first,
                relation @ (Relation::RightOf | Relation::Below),
                second,
            ) => format!("{} {} {}", name(second), relation.inverse(), name(first)),
            SpriteContent::Related(first, relation, second) => {
                format!("{} {relation} {}", name(first), name(second))
            }
        };
        fnv1a(OFFSET, format!("{things}, {}", self.backdrop).as_bytes())
    }

    /// Whether the prompt is one of the tenth that training never sees.
    pub fn is_held_out(&self, sheet: &SpriteSheet) -> bool {
        let hash = self.stable_hash(sheet);
        (hash ^ (hash >> 32)).is_multiple_of(HELD_OUT_ONE_IN)
    }
}
