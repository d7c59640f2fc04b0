use super::canvas::Canvas;
use super::color::squared_distance;
use super::pieces::{Bounds, NONE};
use super::pose::{Pose, beyond, inside};
use super::templates::{COARSE, FINE, THUMBNAIL, THUMBNAIL_THING, Template, halved};

/// Colours farther apart than this are equally wrong.
const FARTHEST: f32 = 90.0;
/// What is tried at first: sizes, in that of the region, how many places of each along an axis (a part of a
/// thing may look like the backdrop), and angles in radians, which matter to what is long and thin.
const GLANCES: [(f32, i32, f32); 6] = [
    (1.0, 1, 0.0),
    (1.0, 1, 0.07),
    (1.0, 1, -0.07),
    (1.12, 3, 0.0),
    (1.3, 3, 0.0),
    (0.9, 1, 0.0),
];
/// Sizes in which a region is compared.
const LEVELS: usize = 3;
/// Candidates of each round of refinement and the pixels that are compared.
const ROUNDS: [(usize, f32); 3] = [(20, 300.0), (6, 700.0), (3, 2500.0)];
/// First steps of the refinement: of the place and the size in longer sides, and of the angle in radians.
const STEPS: [f32; 4] = [0.05, 0.05, 0.06, 0.06];
/// The longer side of a thing in units, at most.
const LARGEST: f32 = 0.85;
/// A thing reaches beyond the edge of the image by this much of its longer side, at most.
const BEYOND: f32 = 0.2;
/// Turned by this at most, in radians.
const TURN: f32 = 0.14;

/// A thing that a region may show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Match {
    pub thing: usize,
    pub pose: Pose,
    /// The mean difference of its pixels in [0, 1].
    pub difference: f32,
}

/// What is to be explained: the pixels of a region, in front of a backdrop.
#[derive(Debug)]
pub(super) struct Region<'a> {
    canvas: &'a Canvas,
    bounds: Bounds,
    /// In halving sizes.
    levels: Vec<Level>,
}

/// A region at one size.
#[derive(Debug)]
struct Level {
    /// Pixels of the canvas that a cell is wide.
    step: usize,
    width: usize,
    height: usize,
    cells: Vec<Cell>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    image: [f32; 3],
    behind: [f32; 3],
    /// The share of it that is the region's.
    own: f32,
    /// The share of it that is another region's.
    other: f32,
}

impl Level {
    /// The mean of each four cells.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let cell = |index: usize| {
            let (x, y) = (2 * (index % width), 2 * (index / width));
            let mut mean = Cell::default();
            let mut count = 0.0;
            for row in y..(y + 2).min(self.height) {
                for cell in &self.cells[row * self.width..][x..(x + 2).min(self.width)] {
                    for channel in 0..3 {
                        mean.image[channel] += cell.image[channel];
                        mean.behind[channel] += cell.behind[channel];
                    }
                    mean.own += cell.own;
                    mean.other += cell.other;
                    count += 1.0;
                }
            }
            Cell {
                image: mean.image.map(|value| value / count),
                behind: mean.behind.map(|value| value / count),
                own: mean.own / count,
                other: mean.other / count,
            }
        };
        Self {
            step: 2 * self.step,
            width,
            height,
            cells: (0..width * height).map(cell).collect(),
        }
    }
}

impl<'a> Region<'a> {
    /// The region of some pieces; `owners` has the piece of each pixel, `behind` the backdrop.
    pub fn new(
        canvas: &'a Canvas,
        behind: &[[f32; 3]],
        owners: &[u16],
        members: &[bool],
        bounds: Bounds,
    ) -> Self {
        let cell = |((&image, &behind), &owner): ((&[f32; 3], &[f32; 3]), &u16)| {
            let own = owner != NONE && members[usize::from(owner)];
            let other = owner != NONE && !own;
            Cell {
                image,
                behind,
                own: f32::from(u8::from(own)),
                other: f32::from(u8::from(other)),
            }
        };
        let cells = canvas.pixels.iter().zip(behind).zip(owners);
        let mut levels = vec![Level {
            step: 1,
            width: canvas.width,
            height: canvas.height,
            cells: cells.map(cell).collect(),
        }];
        for level in 1..LEVELS {
            levels.push(levels[level - 1].halved());
        }
        Self {
            canvas,
            bounds,
            levels,
        }
    }

    /// The thing that the region shows best.
    pub fn best(&self, templates: &[Template], mirrors: &[bool]) -> Option<Match> {
        let mut candidates = self.glance(templates, mirrors);
        for (round, (count, pixels)) in ROUNDS.into_iter().enumerate() {
            candidates.truncate(count);
            let shrink = 0.4f32.powi(round as i32);
            for candidate in &mut candidates {
                let template = &templates[candidate.thing];
                self.refine(candidate, template, STEPS.map(|step| step * shrink), pixels);
            }
            candidates.sort_by(|a, b| a.difference.total_cmp(&b.difference));
        }
        candidates.first().copied()
    }

    /// Compares thumbnails of all things at some places, in two sizes: the small ones bear with what lies
    /// a little elsewhere. Best first.
    fn glance(&self, templates: &[Template], mirrors: &[bool]) -> Vec<Match> {
        let (center, longer) = (self.bounds.center(), self.bounds.longer().max(4.0));
        let largest = LARGEST * self.canvas.unit();
        let mut best: Vec<[[Option<Match>; 2]; 2]> = vec![[[None; 2]; 2]; templates.len()];
        for (size, places, angle) in GLANCES {
            let side = (longer * size).min(largest);
            let slack = (side - longer) / 2.0;
            for place in 0..places * places {
                let shift = |index: i32| (index - places / 2) as f32 * slack;
                let center = (
                    center.0 + shift(place % places),
                    center.1 + shift(place / places),
                );
                let fine = Patch::new(self, center, side / THUMBNAIL_THING, angle);
                let coarse = fine.halved();
                for (thing, template) in templates.iter().enumerate() {
                    for mirrored in [false, true] {
                        if mirrored && !mirrors[thing] {
                            continue;
                        }
                        let thumbnail = &template.thumbnails[usize::from(mirrored)];
                        let differences = [
                            fine.difference(&thumbnail.fine),
                            coarse.difference(&thumbnail.coarse),
                        ];
                        let best = &mut best[thing][usize::from(mirrored)];
                        for (best, difference) in best.iter_mut().zip(differences) {
                            if best.is_none_or(|best| difference < best.difference) {
                                let pose = Pose {
                                    center,
                                    longer: side,
                                    angle,
                                    mirrored,
                                };
                                *best = Some(Match {
                                    thing,
                                    pose,
                                    difference,
                                });
                            }
                        }
                    }
                }
            }
        }
        let rankings = [0, 1].map(|size| {
            let all = best.iter().flatten().filter_map(|sizes| sizes[size]);
            let mut all: Vec<Match> = all.collect();
            all.sort_by(|a, b| a.difference.total_cmp(&b.difference));
            all
        });
        let [fine, coarse] = rankings;
        fine.into_iter()
            .zip(coarse)
            .flat_map(|(a, b)| [a, b])
            .collect()
    }

    /// Moves, scales and turns a thing as long as that makes it more like the region.
    fn refine(&self, found: &mut Match, template: &Template, steps: [f32; 4], pixels: f32) {
        found.difference = self.difference(template, &found.pose, pixels);
        let largest = LARGEST * self.canvas.unit();
        for shrink in [1.0, 0.5] {
            for (parameter, step) in steps.into_iter().enumerate() {
                for sign in [1.0, -1.0] {
                    // Twice in the same direction if the first step is good.
                    let mut better = false;
                    for _ in 0..2 {
                        let mut pose = found.pose;
                        let step = sign * shrink * step;
                        match parameter {
                            0 => pose.center.0 += step * pose.longer,
                            1 => pose.center.1 += step * pose.longer,
                            2 => pose.longer = (pose.longer * (1.0 + step)).min(largest),
                            _ => pose.angle = (pose.angle + step).clamp(-TURN, TURN),
                        }
                        let difference = self.difference(template, &pose, pixels);
                        if difference >= found.difference {
                            break;
                        }
                        better = true;
                        found.pose = pose;
                        found.difference = difference;
                    }
                    if better {
                        break;
                    }
                }
            }
        }
    }

    /// The mean difference between the image and the thing in front of the backdrop, over the pixels of
    /// either, in [0, 1]. About so many `pixels` are compared.
    fn difference(&self, template: &Template, pose: &Pose, pixels: f32) -> f32 {
        let canvas = self.canvas;
        let bounds = pose.bounds(template);
        if beyond(canvas, bounds) > BEYOND * pose.longer {
            return 1.0;
        }
        let (columns, rows) = inside(canvas, bounds.with(self.bounds), 1.0);
        let area = (columns.len() * rows.len()) as f32;
        let fine_enough = |level: &&Level| area <= pixels * (level.step * level.step) as f32;
        let Some(level) = self.levels.iter().find(fine_enough).or(self.levels.last()) else {
            return 1.0;
        };
        let step = level.step as f32;
        let size = template.level_for(pose.longer / step);
        let turn = pose.angle.sin_cos();
        let (mut sum, mut weight) = (0.0, 1e-3);
        for row in rows.start / level.step..rows.end.div_ceil(level.step) {
            for column in columns.start / level.step..columns.end.div_ceil(level.step) {
                let cell = &level.cells[row * level.width + column];
                let (x, y) = ((column as f32 + 0.5) * step, (row as f32 + 0.5) * step);
                let (x, y) = pose.place(turn, x, y);
                let [r, g, b, alpha] = template.sample(size, x, y);
                let counts = 1.0 - cell.other * (1.0 - alpha);
                if alpha == 0.0 && cell.own == 0.0 || counts < 0.5 {
                    continue;
                }
                let shown = [r, g, b];
                let shown: [f32; 3] = std::array::from_fn(|channel| {
                    shown[channel] + (1.0 - alpha) * cell.behind[channel]
                });
                let distance = squared_distance(cell.image, shown);
                sum += distance.min(FARTHEST * FARTHEST);
                weight += cell.own.max(alpha);
            }
        }
        (sum / (FARTHEST * FARTHEST) / weight).sqrt()
    }
}

/// A part of the image at the resolution of thumbnails.
struct Patch<const PIXELS: usize> {
    image: [[f32; PIXELS]; 3],
    behind: [[f32; PIXELS]; 3],
    /// Shares that are the region's, and that count.
    own: [f32; PIXELS],
    counts: [f32; PIXELS],
}

impl Patch<FINE> {
    /// The part around a place, with pixels of `step` pixels of the image, turned clockwise by an angle.
    fn new(region: &Region<'_>, center: (f32, f32), step: f32, angle: f32) -> Self {
        let (sin, cos) = angle.sin_cos();
        let canvas = region.canvas;
        let mut patch = Self {
            image: [[0.0; FINE]; 3],
            behind: [[0.0; FINE]; 3],
            own: [0.0; FINE],
            counts: [0.0; FINE],
        };
        let samples = (step.ceil() as usize).clamp(1, 4);
        let share = 1.0 / (samples * samples) as f32;
        for index in 0..FINE {
            for sample in 0..samples * samples {
                let offset = |cell: usize, part: usize| {
                    let place = cell as f32 + (part as f32 + 0.5) / samples as f32;
                    (place - THUMBNAIL as f32 / 2.0) * step
                };
                let along = offset(index % THUMBNAIL, sample % samples);
                let down = offset(index / THUMBNAIL, sample / samples);
                let x = center.0 + cos * along - sin * down;
                let y = center.1 + sin * along + cos * down;
                let outside =
                    !(x >= 0.0 && y >= 0.0 && x < canvas.width as f32 && y < canvas.height as f32);
                if outside {
                    continue;
                }
                let cell = &region.levels[0].cells[y as usize * canvas.width + x as usize];
                let image = match cell.other > 0.0 {
                    true => cell.behind,
                    false => cell.image,
                };
                for (plane, value) in patch.image.iter_mut().zip(image) {
                    plane[index] += share * value;
                }
                for (plane, value) in patch.behind.iter_mut().zip(cell.behind) {
                    plane[index] += share * value;
                }
                patch.own[index] += share * cell.own;
                patch.counts[index] += share;
            }
        }
        patch
    }

    fn halved(&self) -> Patch<COARSE> {
        Patch {
            image: std::array::from_fn(|channel| halved(&self.image[channel])),
            behind: std::array::from_fn(|channel| halved(&self.behind[channel])),
            own: halved(&self.own),
            counts: halved(&self.counts),
        }
    }
}

impl<const PIXELS: usize> Patch<PIXELS> {
    fn difference(&self, thumbnail: &[[f32; PIXELS]; 4]) -> f32 {
        let (mut sum, mut weight) = (0.0, 1e-3);
        let [r, g, b, alpha] = thumbnail;
        for index in 0..PIXELS {
            let rest = 1.0 - alpha[index];
            let mut distance = 0.0;
            for (channel, plane) in [r, g, b].into_iter().enumerate() {
                let shown = plane[index] + rest * self.behind[channel][index];
                let by = self.image[channel][index] - shown;
                distance += by * by;
            }
            sum += self.counts[index] * distance.min(FARTHEST * FARTHEST);
            weight += self.own[index].max(alpha[index]);
        }
        (sum / (FARTHEST * FARTHEST) / weight).sqrt()
    }
}
