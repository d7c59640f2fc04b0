use std::fmt;

use image::RgbImage;

use super::super::observe::{FoundSprite, SpriteEvaluator, SpriteObservation};
use super::category::SpriteCategory;
use crate::scenes::Relation;
use crate::sprites::backdrop::Backdrop;
use crate::sprites::prompt::{SpriteCaption, SpritePrompt};

/// Least distance of the centres in the direction of a relation, in units of the square root of the area.
const LEAST_DISTANCE: f32 = 0.12;

/// Whether an image shows its prompt, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpriteVerdict {
    faults: Vec<SpriteFault>,
    /// Whether the position is right, if the prompt says where the things are.
    position: Option<bool>,
}

/// Something wrong with an image.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpriteFault {
    /// Something else is behind the things.
    #[error("expected the backdrop \"{expected}\", found \"{found}\"")]
    Backdrop {
        /// The backdrop of the prompt.
        expected: Backdrop,
        /// The backdrop of the image.
        found: Backdrop,
    },
    /// More or fewer things than the prompt has.
    #[error("number of things: expected {expected}, found {found}")]
    Count {
        /// Things of the prompt.
        expected: usize,
        /// Things of the image.
        found: usize,
    },
    /// Things that are not those of the prompt.
    #[error("expected {}, found {}", list(expected), list(found))]
    Things {
        /// Names of the things of the prompt, each once.
        expected: Vec<String>,
        /// Those of the image; `None` is something that the sheet does not have.
        found: Vec<Option<String>>,
    },
    /// The things are there, but not where the prompt has them.
    #[error(
        "expected the first thing {relation} the second, found it {x:.0} pixels right of it, {y:.0} below"
    )]
    Relation {
        /// The relation of the prompt.
        relation: Relation,
        /// How far right of the second thing's centre the first one's is, in pixels.
        x: f32,
        /// How far below.
        y: f32,
    },
}

fn list<T: Clone + Into<Option<String>>>(names: &[T]) -> String {
    let words = names.iter().map(|name| match name.clone().into() {
        Some(name) => name,
        None => "something else".to_owned(),
    });
    match names {
        [] => "nothing".to_owned(),
        _ => words.collect::<Vec<_>>().join(" + "),
    }
}

impl SpriteVerdict {
    /// Whether everything is right.
    pub fn is_right(&self) -> bool {
        self.faults.is_empty()
    }

    /// What is wrong.
    pub fn faults(&self) -> &[SpriteFault] {
        &self.faults
    }

    /// Whether one part of it is right; `None` for the position if the prompt does not name one.
    pub fn is_category_right(&self, category: SpriteCategory) -> Option<bool> {
        let none = |is_it: fn(&SpriteFault) -> bool| Some(!self.faults.iter().any(is_it));
        match category {
            SpriteCategory::Thing => none(|fault| matches!(fault, SpriteFault::Things { .. })),
            SpriteCategory::Backdrop => none(|fault| matches!(fault, SpriteFault::Backdrop { .. })),
            SpriteCategory::Count => none(|fault| matches!(fault, SpriteFault::Count { .. })),
            SpriteCategory::Position => self.position,
            SpriteCategory::All => Some(self.is_right()),
        }
    }
}

impl fmt::Display for SpriteVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_right() {
            return f.write_str("right");
        }
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl SpriteEvaluator {
    /// Evaluates an image by its prompt:
    ///
    /// | category | what makes it right |
    /// |---|---|
    /// | thing | each thing of the prompt is there, and nothing else |
    /// | backdrop | it is the prompt's |
    /// | count | there are as many things as the prompt has |
    /// | position | both things are there, and the first one's centre is at least 0.12 units (of the square root of the image's area) from the second's in the direction named, and farther so than aside |
    /// | all | everything |
    pub fn evaluate(&self, image: &RgbImage, prompt: &SpritePrompt) -> SpriteVerdict {
        let unit = (image.width() as f32 * image.height() as f32).sqrt();
        self.verdict(&self.observe(image), prompt, unit)
    }

    /// Evaluates an image by a caption, as [`evaluate`](Self::evaluate). Where the caption names no backdrop,
    /// each is right.
    pub fn evaluate_caption(&self, image: &RgbImage, caption: &SpriteCaption) -> SpriteVerdict {
        let unit = (image.width() as f32 * image.height() as f32).sqrt();
        let seen = self.observe(image);
        self.verdict(&seen, &caption.prompt(seen.backdrop), unit)
    }

    /// The verdict on what was seen in an image of which a unit has so many pixels.
    fn verdict(&self, seen: &SpriteObservation, prompt: &SpritePrompt, unit: f32) -> SpriteVerdict {
        let mut faults = Vec::new();
        if seen.backdrop != prompt.backdrop() {
            faults.push(SpriteFault::Backdrop {
                expected: prompt.backdrop(),
                found: seen.backdrop,
            });
        }
        let asked = prompt.content().things();
        if seen.things.len() != asked.len() {
            faults.push(SpriteFault::Count {
                expected: asked.len(),
                found: seen.things.len(),
            });
        }
        let mut expected = asked.clone();
        expected.sort_unstable();
        expected.dedup();
        let mut found: Vec<Option<usize>> = seen.things.iter().map(|thing| thing.thing).collect();
        found.sort_unstable();
        found.dedup();
        if !expected.iter().copied().map(Some).eq(found.iter().copied()) {
            let name = |thing: usize| self.names()[thing].clone();
            faults.push(SpriteFault::Things {
                expected: expected.into_iter().map(name).collect(),
                found: found.into_iter().map(|thing| thing.map(name)).collect(),
            });
        }
        let mut position = None;
        if let (Some(relation), [first, second]) = (prompt.content().relation(), &asked[..]) {
            let of = |asked: usize| seen.things.iter().find(|thing| thing.thing == Some(asked));
            position = Some(match (of(*first), of(*second)) {
                (Some(first), Some(second)) => {
                    let fault = misplaced(relation, first, second, unit);
                    let right = fault.is_none();
                    faults.extend(fault);
                    right
                }
                _ => false,
            });
        }
        SpriteVerdict { faults, position }
    }
}

fn misplaced(
    relation: Relation,
    first: &FoundSprite,
    second: &FoundSprite,
    unit: f32,
) -> Option<SpriteFault> {
    let (along, aside) = relation.along_and_aside(first.center, second.center);
    (along < LEAST_DISTANCE * unit || along <= aside).then_some(SpriteFault::Relation {
        relation,
        x: first.center.0 - second.center.0,
        y: first.center.1 - second.center.1,
    })
}
