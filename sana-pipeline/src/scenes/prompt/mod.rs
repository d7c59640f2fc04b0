mod caption;
mod parse;

use std::collections::HashSet;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenes::error::SceneError;
use crate::scenes::place;
use crate::scenes::scene::{Background, Category, Color, ObjectKind, Relation, Scene, Shape, Size};
use crate::support::fnv::{OFFSET, fnv1a};

/// One prompt in this many is kept out of training.
const HELD_OUT_ONE_IN: u64 = 10;
/// Draws of [`ScenePrompt::held_out`] without a new prompt before it repeats old ones.
const DRAWS_WITHOUT_NEWS: usize = 20_000;

/// The objects a caption names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// `a red circle`
    One(ObjectKind),
    /// `three red circles`
    Several {
        /// Two to four.
        count: usize,
        /// What each of them is.
        kind: ObjectKind,
    },
    /// `a red circle and a blue square`
    Pair(ObjectKind, ObjectKind),
    /// `a red circle left of a blue square`
    Related(ObjectKind, Relation, ObjectKind),
}

impl Content {
    /// Every object of the image, in the order in which the caption names them.
    pub fn kinds(&self) -> Vec<ObjectKind> {
        match *self {
            Self::One(kind) => vec![kind],
            Self::Several { count, kind } => vec![kind; count],
            Self::Pair(first, second) | Self::Related(first, _, second) => vec![first, second],
        }
    }

    /// Where the first of two objects is, if the caption says so.
    pub fn relation(&self) -> Option<Relation> {
        match *self {
            Self::Related(_, relation, _) => Some(relation),
            _ => None,
        }
    }
}

/// What a caption means: its objects and background, and what it tests.
///
/// Phrasing is no part of it: [`caption`](Self::caption) varies the phrasing,
/// [`canonical`](Self::canonical) is the plainest one, and
/// [`parse`](Self::parse) reads them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScenePrompt {
    category: Category,
    background: Background,
    content: Content,
}

impl ScenePrompt {
    /// The prompt for these objects, in the category they fall into: one object
    /// is [`Category::Colors`] when its size or a background other than white is
    /// named, two are [`Category::AttributeBinding`] when both sizes are.
    ///
    /// # Errors
    /// [`SceneError::Invisible`], [`SceneError::Indistinct`] and
    /// [`SceneError::Count`] for what the language cannot say.
    pub fn new(background: Background, content: Content) -> Result<Self, SceneError> {
        let named = |kind: ObjectKind| kind.size.word().is_some();
        for object in content.kinds() {
            if !background.shows(object.color) {
                return Err(SceneError::Invisible { object, background });
            }
        }
        let category = match content {
            Content::Several { count, .. } if !(2..=4).contains(&count) => {
                return Err(SceneError::Count { found: count });
            }
            Content::Pair(first, second) | Content::Related(first, _, second)
                if first == second =>
            {
                return Err(SceneError::Indistinct { object: first });
            }
            Content::One(kind) if named(kind) || background != Background::White => {
                Category::Colors
            }
            Content::One(_) => Category::SingleObject,
            Content::Several { .. } => Category::Counting,
            Content::Pair(first, second) if named(first) && named(second) => {
                Category::AttributeBinding
            }
            Content::Pair(..) => Category::TwoObjects,
            Content::Related(..) => Category::Position,
        };
        Ok(Self {
            category,
            background,
            content,
        })
    }

    /// A random prompt of a category, held out or not.
    ///
    /// Half the backgrounds are white and half the sizes unnamed. In every
    /// category of two objects they differ in shape or colour, so that they can
    /// be distinguished; for attribute binding they differ in shape, colour and
    /// size, so that each swap shows.
    pub fn sample<R: Rng + ?Sized>(rng: &mut R, category: Category) -> Self {
        loop {
            let background = any_background(rng);
            let first = any_kind(rng, background);
            let second = any_kind(rng, background);
            let distinct = first.shape != second.shape || first.color != second.color;
            let content = match category {
                Category::SingleObject | Category::Colors => Content::One(first),
                Category::Counting => Content::Several {
                    count: rng.random_range(2..=4),
                    kind: first,
                },
                Category::TwoObjects if distinct => Content::Pair(first, second),
                Category::Position if distinct => {
                    Content::Related(first, pick(rng, &Relation::ALL), second)
                }
                Category::AttributeBinding
                    if first.shape != second.shape
                        && first.color != second.color
                        && first.size != second.size =>
                {
                    Content::Pair(first, second)
                }
                _ => continue,
            };
            match Self::new(background, content) {
                Ok(prompt) if prompt.category == category => return prompt,
                // A single object is evaluated by its shape alone, whatever else is named.
                Ok(prompt) if category == Category::SingleObject => {
                    return Self { category, ..prompt };
                }
                _ => {}
            }
        }
    }

    /// A random prompt for training: categories uniform, never held out.
    pub fn sample_training<R: Rng + ?Sized>(rng: &mut R) -> Self {
        let category = pick(rng, &Category::ALL);
        Self::sample_training_of(rng, category)
    }

    /// A random prompt of a category for training: never held out.
    pub fn sample_training_of<R: Rng + ?Sized>(rng: &mut R, category: Category) -> Self {
        loop {
            let prompt = Self::sample(rng, category);
            if !prompt.is_held_out() {
                return prompt;
            }
        }
    }

    /// `count` held-out prompts of a category, the same for the same seed.
    ///
    /// All are distinct as long as the category has that many; after that the
    /// list starts again from its first prompt.
    pub fn held_out(category: Category, count: usize, seed: u64) -> Vec<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(category as u64);
        let mut seen = HashSet::new();
        let mut distinct = Vec::new();
        let mut draws = 0;
        while distinct.len() < count && draws < DRAWS_WITHOUT_NEWS {
            let prompt = Self::sample(&mut rng, category);
            draws += 1;
            if prompt.is_held_out() && seen.insert(prompt) {
                distinct.push(prompt);
                draws = 0;
            }
        }
        distinct.iter().copied().cycle().take(count).collect()
    }

    /// `per_category` held-out prompts of each category, in the order of
    /// [`Category::ALL`]. The evaluation makes one image for each, with its
    /// index as the seed.
    pub fn held_out_set(per_category: usize, seed: u64) -> Vec<Self> {
        Category::ALL
            .into_iter()
            .flat_map(|category| Self::held_out(category, per_category, seed))
            .collect()
    }

    /// What the prompt tests.
    pub fn category(&self) -> Category {
        self.category
    }

    /// The background, white where the caption names none.
    pub fn background(&self) -> Background {
        self.background
    }

    /// The objects.
    pub fn content(&self) -> Content {
        self.content
    }

    /// FNV-1a (64 bit) of the canonical phrasing, after putting prompts that ask
    /// for the same images into one form: `b and a` becomes `a and b`, and
    /// `b right of a` becomes `a left of b`. Stable across versions and platforms.
    pub fn stable_hash(&self) -> u64 {
        let content = match self.content {
            Content::Pair(first, second) if second < first => Content::Pair(second, first),
            Content::Related(first, relation @ (Relation::RightOf | Relation::Below), second) => {
                Content::Related(second, relation.inverse(), first)
            }
            content => content,
        };
        fnv1a(OFFSET, Self { content, ..*self }.canonical().as_bytes())
    }

    /// Whether the prompt is one of the tenth that training never sees. A prompt
    /// and its mirror image in words (`b right of a` for `a left of b`) are held
    /// out together.
    pub fn is_held_out(&self) -> bool {
        let hash = self.stable_hash();
        (hash ^ (hash >> 32)).is_multiple_of(HELD_OUT_ONE_IN)
    }

    /// A random scene that shows the prompt: sizes +-10 %, colours +-8 a
    /// channel, positions free but 8 px from the canvas edge and 10 px apart, and
    /// in a position prompt well within the named relation.
    pub fn scene<R: Rng + ?Sized>(&self, rng: &mut R) -> Scene {
        let kinds = self.content.kinds();
        let objects = place::place(rng, self.background, &kinds, self.content.relation());
        Scene {
            background: self.background,
            objects,
        }
    }
}

impl Scene {
    /// A random scene that no caption describes: up to `objects` of any kind, as many as find
    /// room. It shows more edges and corners than a prompt's scene, for training an autoencoder.
    pub fn crowded<R: Rng + ?Sized>(rng: &mut R, objects: usize) -> Self {
        let background = any_background(rng);
        let kinds: Vec<ObjectKind> = (0..objects).map(|_| any_kind(rng, background)).collect();
        Self {
            background,
            objects: place::crowd(rng, background, &kinds),
        }
    }
}

/// One of `values`, which must not be empty.
pub(super) fn pick<T: Copy, R: Rng + ?Sized>(rng: &mut R, values: &[T]) -> T {
    values[rng.random_range(0..values.len())]
}

fn any_background<R: Rng + ?Sized>(rng: &mut R) -> Background {
    use Background::{Black, Gray, White};
    pick(rng, &[White, White, Black, Gray])
}

fn any_kind<R: Rng + ?Sized>(rng: &mut R, background: Background) -> ObjectKind {
    let size = pick(rng, &[Size::Small, Size::Medium, Size::Medium, Size::Large]);
    let shape = pick(rng, &Shape::ALL);
    loop {
        let color = pick(rng, &Color::ALL);
        if background.shows(color) {
            return ObjectKind { size, color, shape };
        }
    }
}
