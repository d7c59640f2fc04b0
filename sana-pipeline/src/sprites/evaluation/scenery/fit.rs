use super::recipe::{Height, JITTER, Recipe};
use crate::sprites::backdrop::Backdrop;
use crate::sprites::evaluation::canvas::Canvas;
use crate::sprites::evaluation::color::{segment_distance, squared_distance};

/// Farther from a backdrop's colours than this, all pixels are equally wrong.
const FARTHEST: f32 = 30.0;
/// What a pixel costs more, as a share of the greatest cost, if it is no layer but something on one.
const ORNAMENT: f32 = 0.08;
/// Pixels this close to a layer say what its colours are.
const MEMBERS: f32 = 20.0;
/// The weight of the painter's own colours next to the image's pixels, as a share of these.
const PRIOR: f32 = 0.02;
/// The colours of an image are this far from the painter's, at most.
const DRIFT: f32 = 14.0;
/// What is left of the light in the middle of a shadow, in the curve of sRGB: 0.55^(1 / 2.4).
const SHADE: f32 = 0.779;

const WHITE: u32 = 0xffffff;

type Rgb = [f32; 3];

fn rgb(hex: u32) -> Rgb {
    [16, 8, 0].map(|shift| ((hex >> shift) & 0xff) as f32)
}

fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

/// A backdrop with the height of its ground and the colours of its layers.
#[derive(Debug)]
pub(super) struct Fit {
    backdrop: Backdrop,
    recipe: Recipe,
    ground: f32,
    /// Colours at both ends of each layer.
    colors: Vec<[Rgb; 2]>,
    /// The height of the image in units.
    tall: f32,
}

/// The colours that can be backdrop in one row.
#[derive(Debug)]
pub(super) struct Row {
    /// Of the layers that can be seen here: the number, the colour and the place in its gradient.
    layers: Vec<(usize, Rgb, f32)>,
    /// Everything else: from one colour to another, and how far from both at most.
    others: Vec<([Rgb; 2], f32)>,
    /// The colour of the layer that is here on average.
    pub base: Rgb,
    /// Whether there are edges between layers or patches here.
    pub edges: bool,
    pub patches: bool,
    /// From the sky to white, where clouds can be.
    clouds: Option<[Rgb; 2]>,
}

impl Row {
    /// The nearest layer and the distance to it.
    fn layer(&self, pixel: Rgb) -> Option<(usize, f32, f32)> {
        let layers = self.layers.iter();
        layers
            .map(|&(layer, color, share)| (layer, share, squared_distance(pixel, color).sqrt()))
            .min_by(|a, b| a.2.total_cmp(&b.2))
    }

    /// How far a pixel is from the layers alone.
    pub fn layer_distance(&self, pixel: Rgb) -> f32 {
        self.layer(pixel)
            .map_or(f32::INFINITY, |(.., distance)| distance)
    }

    fn other(&self, pixel: Rgb) -> f32 {
        let others = self.others.iter();
        others.fold(f32::INFINITY, |least, &([from, to], jitter)| {
            least.min((segment_distance(pixel, from, to) - jitter).max(0.0))
        })
    }

    /// How far a pixel is from all that can be seen here.
    pub fn distance(&self, pixel: Rgb) -> f32 {
        let layer = self.layer_distance(pixel);
        layer.min(self.other(pixel))
    }

    /// How far a pixel is from a layer in the shadow of something.
    pub fn shaded_distance(&self, pixel: Rgb) -> f32 {
        let dark = |color: Rgb| color.map(|value| (SHADE * (value + 14.0) - 14.0).max(0.0));
        let layers = self.layers.iter();
        layers.fold(f32::INFINITY, |least, &(_, color, _)| {
            least.min(segment_distance(pixel, color, dark(color)))
        })
    }

    /// How far a pixel is from what clouds over each other can show.
    pub fn cloud_distance(&self, pixel: Rgb) -> f32 {
        self.clouds.map_or(f32::INFINITY, |[sky, white]| {
            segment_distance(pixel, sky, white)
        })
    }

    /// What a pixel costs, of the layers alone and with everything.
    fn costs(&self, pixel: Rgb) -> [f32; 2] {
        let most = FARTHEST * FARTHEST;
        let layer = self.layer_distance(pixel).powi(2).min(most);
        let other = self.other(pixel).powi(2) + ORNAMENT * most;
        [layer, layer.min(other)]
    }
}

impl Fit {
    /// A backdrop in the painter's own colours.
    pub fn nominal(backdrop: Backdrop, ground: f32, canvas: &Canvas) -> Self {
        let recipe = Recipe::of(backdrop);
        let colors = recipe.layers.iter().map(|layer| layer.colors.map(rgb));
        Self {
            backdrop,
            ground,
            colors: colors.collect(),
            recipe,
            tall: canvas.height as f32 / canvas.unit(),
        }
    }

    /// The best of some heights of the ground, the colours adapted `rounds` times, and its mean costs: of
    /// the layers alone, and with everything, by which backdrops compare. The height is found by both.
    pub fn best(
        canvas: &Canvas,
        backdrop: Backdrop,
        grounds: &[f32],
        rounds: usize,
        stride: usize,
    ) -> ([f32; 2], Self) {
        let grounds = match backdrop.has_ground() {
            true => grounds,
            false => &grounds[..1],
        };
        let fits = grounds.iter().map(|&ground| {
            let mut fit = Self::nominal(backdrop, ground, canvas);
            for _ in 0..rounds {
                fit.adapt(canvas, stride);
            }
            (fit.costs(canvas, stride), fit)
        });
        let best = fits.min_by(|(a, _), (b, _)| (a[0] + a[1]).total_cmp(&(b[0] + b[1])));
        best.unwrap_or_else(|| {
            let costs = [f32::INFINITY; 2];
            (costs, Self::nominal(backdrop, 0.57, canvas))
        })
    }

    /// Moves the ground by ever smaller steps as long as that is better.
    pub fn refined(self, canvas: &Canvas, stride: usize, steps: &[f32]) -> Self {
        let mut best = (self.costs(canvas, stride), self);
        if !best.1.backdrop.has_ground() {
            return best.1;
        }
        for step in steps {
            for ground in [best.1.ground - step, best.1.ground + step] {
                let fit = Self::best(canvas, best.1.backdrop, &[ground], 2, stride);
                if fit.0[0] + fit.0[1] < best.0[0] + best.0[1] {
                    best = fit;
                }
            }
        }
        best.1
    }

    pub fn backdrop(&self) -> Backdrop {
        self.backdrop
    }

    /// What can be seen in a row.
    pub fn row(&self, canvas: &Canvas, row: usize) -> Row {
        let down = (row as f32 + 0.5) / canvas.height as f32;
        let at = |height: Height| height.at(self.ground, self.tall);
        let within = |[from, to]: [Height; 2]| at(from) <= down && down <= at(to);
        let color = |index: usize| {
            let [from, to] = self.recipe.layers[index].ramp.map(at);
            let share = ((down - from) / (to - from)).clamp(0.0, 1.0);
            (
                mix(self.colors[index][0], self.colors[index][1], share),
                share,
            )
        };
        let layers: Vec<(usize, Rgb, f32)> = (0..self.recipe.layers.len())
            .filter(|&index| within(self.recipe.layers[index].rows))
            .map(|index| {
                let (color, share) = color(index);
                (index, color, share)
            })
            .collect();
        // Where three layers meet, a pixel may be a mixture of all.
        let slack = if layers.len() > 2 { JITTER * 2.0 } else { 0.0 };
        let mut others: Vec<([Rgb; 2], f32)> = Vec::new();
        for (index, from) in layers.iter().enumerate() {
            let below = layers[index + 1..].iter();
            others.extend(below.map(|to| ([from.1, to.1], slack)));
        }
        for blend in self.recipe.blends.iter().filter(|blend| within(blend.rows)) {
            let (color, _) = color(blend.layer);
            let ends = blend
                .shares
                .map(|share| mix(color, rgb(blend.toward), share));
            others.push((ends, blend.jitter));
        }
        let clouds = (self.recipe.blends.iter())
            .find(|blend| blend.toward == WHITE && within(blend.rows))
            .map(|blend| [color(blend.layer).0, rgb(WHITE)]);
        let patches = self.recipe.patches.iter().any(|patch| within(patch.rows));
        for patch in self
            .recipe
            .patches
            .iter()
            .filter(|patch| within(patch.rows))
        {
            others.push((patch.colors.map(rgb), JITTER));
        }
        let begun = |index: &usize| at(self.recipe.layers[*index].begins) <= down;
        let base = (0..self.recipe.layers.len()).rev().find(begun).unwrap_or(0);
        Row {
            edges: layers.len() > 1 || patches,
            patches,
            clouds,
            layers,
            others,
            base: color(base).0,
        }
    }

    /// Takes the colours of the layers from the pixels that show them.
    fn adapt(&mut self, canvas: &Canvas, stride: usize) {
        // Least squares of both ends of a gradient: of a pixel at a share s of it, (1 - s, s).
        let mut sums = vec![([0.0f32; 3], [[0.0f32; 3]; 2]); self.colors.len()];
        for row in 0..canvas.height {
            let seen = self.row(canvas, row);
            for column in (0..canvas.width).step_by(stride) {
                let pixel = canvas.pixels[row * canvas.width + column];
                if let Some((layer, share, distance)) = seen.layer(pixel)
                    && distance < MEMBERS
                {
                    let (squares, values) = &mut sums[layer];
                    let weights = [1.0 - share, share];
                    squares[0] += weights[0] * weights[0];
                    squares[1] += weights[0] * weights[1];
                    squares[2] += weights[1] * weights[1];
                    for (values, weight) in values.iter_mut().zip(weights) {
                        for (value, channel) in values.iter_mut().zip(pixel) {
                            *value += weight * channel;
                        }
                    }
                }
            }
        }
        for ((layer, ends), (squares, values)) in
            self.recipe.layers.iter().zip(&mut self.colors).zip(sums)
        {
            let painted = layer.colors.map(rgb);
            let prior = PRIOR * (squares[0] + 2.0 * squares[1] + squares[2]) + 1.0;
            let [a, b, c] = [squares[0] + prior, squares[1], squares[2] + prior];
            let determinant = a * c - b * b;
            for channel in 0..3 {
                let [p, q] = [0, 1].map(|end| values[end][channel] + prior * painted[end][channel]);
                let found = [(c * p - b * q) / determinant, (a * q - b * p) / determinant];
                for end in 0..2 {
                    let painted = painted[end][channel];
                    ends[end][channel] = found[end].clamp(painted - DRIFT, painted + DRIFT);
                }
            }
        }
    }

    fn costs(&self, canvas: &Canvas, stride: usize) -> [f32; 2] {
        let (mut sums, mut count) = ([0.0; 2], 0.0);
        for row in 0..canvas.height {
            let seen = self.row(canvas, row);
            for column in (0..canvas.width).step_by(stride) {
                let costs = seen.costs(canvas.pixels[row * canvas.width + column]);
                for (sum, cost) in sums.iter_mut().zip(costs) {
                    *sum += cost;
                }
                count += 1.0;
            }
        }
        sums.map(|sum| sum / count)
    }
}
