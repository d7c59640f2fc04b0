use super::canvas::Canvas;

/// The piece that a pixel belongs to; none of them.
pub(super) const NONE: u16 = u16::MAX;
/// Fewer pixels than this share of the square of a unit are no piece.
const LEAST_AREA: f32 = 0.0007;

/// A box in pixels: first column and row, and those behind the last ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Bounds {
    pub fn around(center: (f32, f32), half: (f32, f32)) -> Self {
        Self {
            left: center.0 - half.0,
            top: center.1 - half.1,
            right: center.0 + half.0,
            bottom: center.1 + half.1,
        }
    }

    pub fn with(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    pub fn center(self) -> (f32, f32) {
        (
            (self.left + self.right) / 2.0,
            (self.top + self.bottom) / 2.0,
        )
    }

    pub fn longer(self) -> f32 {
        (self.right - self.left).max(self.bottom - self.top)
    }

    /// The distance to another box, 0 if they overlap.
    pub fn distance(self, other: Self) -> f32 {
        let along = (self.left - other.right)
            .max(other.left - self.right)
            .max(0.0);
        let down = (self.top - other.bottom)
            .max(other.top - self.bottom)
            .max(0.0);
        along.hypot(down)
    }
}

/// A connected set of pixels that stand out.
#[derive(Debug)]
pub(super) struct Piece {
    pub pixels: Vec<usize>,
    pub bounds: Bounds,
}

/// The pieces, the largest first, and to which one each pixel belongs. Specks are left out.
pub(super) fn pieces(canvas: &Canvas, visible: &[bool]) -> (Vec<Piece>, Vec<u16>) {
    let (width, height) = (canvas.width, canvas.height);
    let least = (LEAST_AREA * canvas.unit() * canvas.unit()).max(2.0);
    let mut waiting = visible.to_vec();
    let mut pieces: Vec<Piece> = Vec::new();
    for start in 0..width * height {
        if !std::mem::replace(&mut waiting[start], false) {
            continue;
        }
        let mut pixels = vec![start];
        let mut bounds: Option<Bounds> = None;
        let mut next = 0;
        while let Some(&index) = pixels.get(next) {
            next += 1;
            let (x, y) = (index % width, index / width);
            let own = Bounds {
                left: x as f32,
                top: y as f32,
                right: (x + 1) as f32,
                bottom: (y + 1) as f32,
            };
            bounds = Some(bounds.map_or(own, |bounds| bounds.with(own)));
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    let neighbour = row * width + column;
                    if std::mem::replace(&mut waiting[neighbour], false) {
                        pixels.push(neighbour);
                    }
                }
            }
        }
        if let Some(bounds) = bounds
            && pixels.len() as f32 >= least
        {
            pieces.push(Piece { pixels, bounds });
        }
    }
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.pixels.len()));
    pieces.truncate(usize::from(NONE));
    let mut owners = vec![NONE; width * height];
    for (number, piece) in pieces.iter().enumerate() {
        for &pixel in &piece.pixels {
            owners[pixel] = number as u16;
        }
    }
    (pieces, owners)
}
