//! Distances of colours, in levels.

/// The square of the distance of two colours.
pub(super) fn squared_distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.into_iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The distance of a colour to those between two.
pub(super) fn segment_distance(pixel: [f32; 3], from: [f32; 3], to: [f32; 3]) -> f32 {
    let (mut dot, mut length) = (0.0, 0.0);
    for channel in 0..3 {
        let along = to[channel] - from[channel];
        dot += along * (pixel[channel] - from[channel]);
        length += along * along;
    }
    let share = match length > 0.0 {
        true => (dot / length).clamp(0.0, 1.0),
        false => 0.0,
    };
    let nearest =
        std::array::from_fn(|channel| from[channel] + share * (to[channel] - from[channel]));
    squared_distance(pixel, nearest).sqrt()
}
