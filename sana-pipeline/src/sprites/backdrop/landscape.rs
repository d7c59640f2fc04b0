//! The painted backdrops, from the back to the front.

use std::f32::consts::TAU;

use rand::Rng;

use super::painter::{Painter, SOFT, rgb, step};

pub(super) fn sky<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x5fa8ec, 0xc9e6fb, 1.0);
    p.clouds(3, 0.08, 0.92);
}

pub(super) fn meadow<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x7fc0f5, 0xd8effc, p.ground);
    p.clouds(2, 0.05, 0.3);
    let hill = p.wave(p.ground, 0.025, 0.6, 1.2);
    p.below(hill, 0x8fd06a, 0x4f9a3c);
}

pub(super) fn sea<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x86c5f2, 0xe4f3fb, p.ground);
    p.clouds(2, 0.05, 0.3);
    let (ground, phase) = (p.ground, p.draw(0.0, 1.0));
    p.below(p.straight(ground), 0x3f8fd0, 0x15508f);
    // Crests, closer together towards the horizon.
    let crest = move |x: f32, down: f32| {
        let depth = (down - ground).max(0.0).powf(0.6);
        (TAU * (14.0 * depth + 0.25 * (TAU * (1.5 * x + phase)).sin())).sin()
    };
    p.lay(
        |_| rgb(0x8fc4ea),
        |point| match point.down > ground {
            true => 0.13 * (1.0 + crest(point.x, point.down)) / 2.0,
            false => 0.0,
        },
    );
}

pub(super) fn beach<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x7cc7f2, 0xdef3fb, p.ground - 0.12);
    p.clouds(2, 0.05, 0.25);
    p.flat_below(p.straight(p.ground - 0.12), 0x2fa3c4);
    let foam = p.wave(p.ground - 0.018, 0.015, 0.8, 1.5);
    p.flat_below(foam, 0xf6fbfb);
    let sand = p.wave(p.ground, 0.015, 0.8, 1.5);
    p.below(sand, 0xf3dfae, 0xdcbc7c);
}

pub(super) fn snow<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x8aa9c9, 0xd5e2ee, p.ground);
    let hill = p.wave(p.ground, 0.03, 0.6, 1.2);
    p.below(hill, 0xfbfdff, 0xcddcea);
    let flakes = p.draw_count(10, 15);
    p.spots(flakes, 0xffffff, [0.008, 0.015], 0.95);
}

pub(super) fn night<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x0b1038, 0x2b3a78, p.ground);
    let stars = p.draw_count(10, 15);
    p.spots(stars, 0xfff4cc, [0.006, 0.012], p.ground - 0.05);
    let hill = p.wave(p.ground + 0.03, 0.03, 0.6, 1.2);
    p.below(hill, 0x1d2b4a, 0x0c1428);
}

pub(super) fn table<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0xe9dcc9, 0xdccbb2, p.ground);
    let (ground, phase) = (p.ground, p.draw(0.0, 1.0));
    p.below(p.straight(ground), 0xb9793f, 0x8f5526);
    // Grain.
    p.lay(
        |_| rgb(0x6b3a14),
        |point| match point.down > ground {
            true => {
                let depth = (point.down - ground) / (1.0 - ground);
                let bend = 0.15 * (TAU * (1.2 * point.x + phase)).sin();
                0.15 * (1.0 + (TAU * (5.0 * depth + bend)).sin()) / 2.0
            }
            false => 0.0,
        },
    );
}

pub(super) fn desert<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0xf5b76c, 0xfbe3b4, p.ground);
    let far = p.wave(p.ground - 0.03, 0.04, 0.5, 0.9);
    p.flat_below(far, 0xd9944e);
    let near = p.wave(p.ground + 0.04, 0.03, 0.5, 0.9);
    p.below(near, 0xe8ae62, 0xc98743);
}

pub(super) fn forest<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x3f7f5f, 0xa9d3a1, p.ground);
    let (trunks, ground, width) = (p.draw_count(5, 7), p.ground, p.width());
    for trunk in 0..trunks {
        let x = (trunk as f32 + p.draw(0.2, 0.8)) * width / trunks as f32;
        let (half, bark) = (p.draw(0.018, 0.03), p.near(0x4a3322));
        p.lay(
            |_| bark,
            |point| match point.down < ground + 0.02 {
                true => 1.0 - step(half - SOFT, half + SOFT, (point.x - x).abs()),
                false => 0.0,
            },
        );
    }
    let (leaves, phase) = (p.near(0x24593a), p.draw(0.0, 1.0));
    p.lay(
        |_| leaves,
        |point| {
            let edge = 0.16 + 0.05 * (TAU * (3.0 * point.x + phase)).sin();
            1.0 - step(-2.0 * SOFT, 2.0 * SOFT, point.y - edge)
        },
    );
    p.below(p.straight(ground), 0x4d8a45, 0x2b5a2c);
}

pub(super) fn city<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x6d5aa8, 0xf5a57c, p.ground);
    let (houses, ground, width) = (p.draw_count(6, 8), p.ground, p.width());
    for house in 0..houses {
        let [left, right] = [house, house + 1].map(|edge| edge as f32 * width / houses as f32);
        let (top, light) = (ground - p.draw(0.1, 0.36), p.draw(0.8, 1.2));
        let wall = p.near(0x3b335f).map(|channel| channel * light);
        let soft = SOFT / 2.0;
        p.lay(
            |_| wall,
            |point| {
                step(-soft, soft, point.x - left)
                    * (1.0 - step(-soft, soft, point.x - right))
                    * step(-soft, soft, point.down - top)
            },
        );
    }
    p.below(p.straight(ground), 0x6a6a78, 0x45454f);
}

pub(super) fn room<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0xcfe3dc, 0xbcd3ca, p.ground);
    p.flat_below(p.straight(p.ground - 0.03), 0xf7f7f3);
    p.below(p.straight(p.ground), 0xc99d6c, 0xa87c4e);
}

pub(super) fn underwater<R: Rng + ?Sized>(p: &mut Painter<'_, R>) {
    p.gradient(0x4cc3da, 0x0b4f86, 1.0);
    for _ in 0..p.draw_count(6, 9) {
        let width = p.width();
        let (x, y) = (p.draw(0.0, width), p.draw(0.0, 0.85));
        let radius = p.draw(0.012, 0.028);
        p.lay(
            |_| rgb(0xd6f4fb),
            |point| {
                let distance = (point.x - x).hypot(point.y - y);
                let rim = 0.35 + 0.65 * step(0.3 * radius, radius, distance);
                0.6 * rim * (1.0 - step(0.8 * radius, 1.2 * radius, distance))
            },
        );
    }
    let sand = p.wave(0.9, 0.02, 0.8, 1.2);
    p.flat_below(sand, 0xcdb98a);
}
