//! Data sources of a user's own, and images of several sizes.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use sana_linear_attn::parity::{device, values};

use crate::train::optimizer::Parameters;
use crate::train::run::share;
use crate::train::tasks::with_measured_scale;
use crate::train::tests::models::{options, task, tiny_autoencoder, tiny_denoiser};
use crate::train::{
    AutoencoderTask, Bucket, DataSource, FlatShapes, ImageFolder, LatentPool, PoolOptions, Run,
    Sample, Task, TrainError, TransformerTask,
};

/// Plain fields whose brightness is their index, of whatever size and length it is asked for.
#[derive(Debug)]
struct Fields {
    buckets: Vec<Bucket>,
    /// Width and height of the samples, if they are wrong.
    wrong: Option<[usize; 2]>,
    missing: usize,
}

fn fields(buckets: &[([usize; 2], Option<usize>)]) -> Fields {
    let buckets = buckets.iter().map(|&(size, count)| Bucket { size, count });
    Fields {
        buckets: buckets.collect(),
        wrong: None,
        missing: 0,
    }
}

impl DataSource for Fields {
    fn content(&self) -> String {
        "fields".to_owned()
    }

    fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn sample_at(&self, seed: u64, bucket: usize, index: u64) -> Result<Sample, TrainError> {
        let size = self.wrong.unwrap_or(self.buckets[bucket].size);
        let value = (index as f32 * 0.37 + seed as f32).sin();
        Ok(Sample {
            size,
            pixels: vec![value; 3 * size[0] * size[1] - self.missing],
            caption: format!("{bucket} {index}"),
        })
    }
}

fn captions(pool: &LatentPool) -> Vec<String> {
    let buckets = pool.buckets().iter();
    let captions = buckets.flat_map(|bucket| (0..bucket.len()).map(|i| bucket.caption(i)));
    captions.map(str::to_owned).collect()
}

/// With one size, samples of a step and of a pool are what they were before there were others: number
/// `step * batch + sample`, and the first `count`.
#[test]
fn one_square_size_is_gone_through_in_order() {
    let device = device();
    let data = fields(&[([8, 8], None)]);
    assert_eq!(data.settings()["size"], 8);
    assert_eq!(data.settings()["data"], "fields");
    let pool = |count, round| {
        let options = PoolOptions {
            count,
            seed: 0,
            round,
        };
        LatentPool::encode(&tiny_autoencoder(&device), &data, options, &device, |_| ())
    };
    let numbers =
        |range: std::ops::Range<usize>| range.map(|i| format!("0 {i}")).collect::<Vec<_>>();
    assert_eq!(captions(&pool(20, 0).expect("pool")), numbers(0..20));
    assert_eq!(captions(&pool(20, 3).expect("pool")), numbers(60..80));

    let start = tiny_autoencoder(&device);
    let start = Parameters::of(&start).write_into(start, true);
    let mut task = task(&device);
    task.options.latent_noise = 0.0;
    task.options.latent_decay = 0.0;
    task.options.absolute = 0.0;
    task.data = Arc::new(data);
    let loss = task
        .loss(&start, 3, 1..3)
        .expect("loss")
        .into_scalar::<f32>();
    let images =
        [3 * 4 + 1, 3 * 4 + 2].map(|index| task.data.image_at(0, 0, index).expect("image"));
    let images = TensorData::new(images.concat(), [2, 3, 8, 8]);
    let images = Tensor::<4>::from_data(images, (&device, DType::F32)).autodiff();
    let decoded = start
        .decode_raw(start.encode_raw(images.clone()).expect("fits"))
        .expect("fits");
    let expected = (decoded - images).square().mean().into_scalar::<f32>();
    assert_eq!(loss, expected);
}

/// Images of a pool are divided by what each size has, and a round follows the one before in each.
#[test]
fn a_pool_has_images_of_each_size() {
    let device = device();
    let data = fields(&[([8, 8], Some(6)), ([12, 4], Some(3))]);
    assert_eq!(data.settings()["size"], "8x8,12x4");
    assert_eq!(data.count(), Some(9));
    assert_eq!(
        data.captions(0, 3).expect("captions"),
        ["0 0", "0 1", "1 0"]
    );
    let pool = |count, round| {
        let options = PoolOptions {
            count,
            seed: 0,
            round,
        };
        LatentPool::encode(&tiny_autoencoder(&device), &data, options, &device, |_| ())
            .expect("pool")
    };
    let all = pool(100, 0);
    assert_eq!(all.len(), 9);
    let shapes: Vec<_> = all.buckets().iter().map(|bucket| bucket.shape).collect();
    assert_eq!(shapes, [[4, 4, 4], [4, 2, 6]]);
    assert_eq!(captions(&pool(3, 0)), ["0 0", "0 1", "1 0"]);
    assert_eq!(captions(&pool(3, 2)), ["0 4", "0 5", "1 2"]);
    // One image is of the larger bucket, and the other one is left out.
    let one = pool(1, 1);
    assert_eq!(captions(&one), ["0 1"]);
    assert_eq!(one.buckets().len(), 1);
    // Each is encoded as it would be alone.
    let autoencoder = tiny_autoencoder(&device);
    let autoencoder = Parameters::of(&autoencoder).write_into(autoencoder, false);
    let images = PoolOptions {
        count: 9,
        ..PoolOptions::default()
    };
    let pool = LatentPool::encode(&autoencoder, &data, images, &device, |_| ()).expect("pool");
    let sample = data.sample_at(0, 1, 2).expect("sample");
    let image = TensorData::new(sample.pixels, [1, 3, 4, 12]);
    let image = Tensor::<4>::from_data(image, (&device, DType::F32));
    let alone = values(autoencoder.encode(image).expect("fits"));
    for (found, alone) in pool.buckets()[1].latent(2).iter().zip(alone) {
        assert!((found - alone).abs() < 1e-5, "{found} {alone}");
    }
}

/// Both kinds of run, with images of three sizes: every step has one of them, on all replicas, and a
/// run that was stopped continues with the same ones.
#[test]
fn runs_with_several_sizes_resume() {
    let device = device();
    let mut autoencoder = task(&device);
    autoencoder.data = Arc::new(FlatShapes::new(&[[16, 16], [24, 8], [8, 24]]));
    let start = tiny_autoencoder(&device);
    stops_and_resumes(
        Parameters::of(&start).write_into(start, false),
        &autoencoder,
    );

    let (start, mut denoiser) = tiny_denoiser(&device, None);
    let latents = (0..2 * 4 * 3).map(|i| (i as f32 * 0.3).cos()).collect();
    let others = LatentPool::new([4, 1, 3], latents, vec!["a red circle".to_owned(); 2]);
    denoiser.pool = denoiser.pool.and(others);
    assert_eq!(denoiser.pool.len(), 5);
    stops_and_resumes(start, &denoiser);
}

fn stops_and_resumes<T: Task<Model: Sync + std::fmt::Debug>>(start: T::Model, task: &T) {
    let losses = |folder: &std::path::Path, until: usize| {
        let mut run = Run::open(folder, start.clone(), options(6)).expect("run");
        let mut losses = Vec::new();
        run.train(task, |_, progress| {
            losses.push(progress.loss);
            progress.step < until
        })
        .expect("trains");
        losses
    };
    let folder = || tempfile::tempdir().expect("folder");
    let (whole, stopped) = (folder(), folder());
    let expected = losses(whole.path(), 6);
    let mut found = losses(stopped.path(), 2);
    found.extend(losses(stopped.path(), 6));
    assert_eq!(found, expected);

    let model = Parameters::of(&start).write_into(start.clone(), true);
    for step in 0..6 {
        let loss = |parts: usize| -> f32 {
            let part = |part| {
                let samples = share(task.batch(), part, parts);
                let weight = samples.len() as f32 / task.batch() as f32;
                let loss = task.loss(&model, step, samples).expect("loss");
                loss.into_scalar::<f32>() * weight
            };
            (0..parts).map(part).sum()
        };
        let (one, several) = (loss(1), loss(3));
        assert!((one - several).abs() < 1e-4 * one, "{one} {several}");
    }
}

/// A source that gives something else than it says is an error, wherever it is used.
#[test]
fn a_wrong_source_is_refused() {
    let device = device();
    let autoencoder = tiny_autoencoder(&device);
    let size = ([8, 8], None);
    let refused = |data: Fields| {
        let pool = PoolOptions {
            count: 2,
            ..PoolOptions::default()
        };
        let encoded = LatentPool::encode(&autoencoder, &data, pool, &device, |_| ());
        let error = encoded.expect_err("refused").to_string();
        assert!(error.starts_with("the data source is wrong: "), "{error}");
        let scaled = with_measured_scale(&autoencoder, &data, 0, &device);
        assert_eq!(scaled.expect_err("refused").to_string(), error);
        error
    };
    let none = refused(fields(&[]));
    assert!(none.contains("no buckets"), "{none}");
    let empty = refused(fields(&[size, ([8, 16], Some(0))]));
    assert!(empty.contains("bucket 8x16 has no images"), "{empty}");
    let flat = refused(fields(&[([8, 0], None)]));
    assert!(flat.contains("bucket 8x0 has no pixels"), "{flat}");
    let mut turned = fields(&[([8, 16], None)]);
    turned.wrong = Some([16, 8]);
    let turned = refused(turned);
    assert!(
        turned.contains("sample 0 has 16x8 pixels, and its bucket 8x16"),
        "{turned}"
    );
    let mut short = fields(&[size]);
    short.missing = 1;
    let short = refused(short);
    assert!(
        short.contains("image 0 has 191 values, expected 3 x 8 x 8"),
        "{short}"
    );

    let mut short = fields(&[size]);
    short.missing = 1;
    let task = AutoencoderTask {
        data: Arc::new(short),
        ..task(&device)
    };
    let error = task.loss(&autoencoder, 0, 0..1).expect_err("refused");
    assert!(matches!(error, TrainError::Source { .. }), "{error}");
    let task = AutoencoderTask {
        data: Arc::new(fields(&[])),
        ..task
    };
    let error = task.validate().expect_err("refused");
    assert!(matches!(error, TrainError::Source { .. }), "{error}");
}

/// An image of a folder is in the bucket of the nearest aspect ratio, and covers its size.
#[test]
fn images_go_to_the_nearest_aspect_ratio() {
    let folder = tempfile::tempdir().expect("folder");
    // Left half dark, right half bright.
    let save = |name: &str, width: u32, height: u32| {
        let image = image::RgbImage::from_fn(width, height, |x, _| {
            image::Rgb(if x < width / 2 { [0; 3] } else { [255; 3] })
        });
        image
            .save(folder.path().join(name).with_extension("png"))
            .expect("image");
        std::fs::write(folder.path().join(name).with_extension("txt"), name).expect("caption");
    };
    save("square", 20, 20);
    save("wide", 30, 20);
    save("wider", 90, 20);
    save("nearly", 22, 20);
    let sizes = [[8, 8], [16, 8], [8, 16]];
    let data = ImageFolder::open(folder.path(), &sizes).expect("data");
    // Nothing is tall.
    let expected = [([8, 8], Some(2)), ([16, 8], Some(2))];
    let expected = expected.map(|(size, count)| Bucket { size, count });
    assert_eq!(data.buckets(), expected);
    let mut captions = data.captions(3, 100).expect("captions");
    captions.sort();
    assert_eq!(captions, ["nearly", "square", "wide", "wider"]);
    assert_eq!(data.captions(3, 2).expect("captions").len(), 2);
    for (bucket, names) in [["nearly", "square"], ["wide", "wider"]].iter().enumerate() {
        let mut found = Vec::new();
        for index in 0..2 {
            let sample = data.sample_at(0, bucket, index).expect("sample");
            assert_eq!(sample.size, data.buckets()[bucket].size);
            for row in sample.pixels.chunks_exact(sample.size[0]) {
                assert_eq!(row[..3], [-1.0; 3], "{}", sample.caption);
                assert_eq!(row[row.len() - 3..], [1.0; 3], "{}", sample.caption);
            }
            found.push(sample.caption);
        }
        found.sort();
        assert_eq!(&found, names);
    }
    // The content does not depend on the sizes.
    let square = ImageFolder::open(folder.path(), &sizes[..1]).expect("data");
    assert_eq!(square.content(), data.content());
    assert!(square.content().starts_with("4 images, "));
    for wrong in [&[][..], &[[8, 0]]] {
        let error = ImageFolder::open(folder.path(), wrong).expect_err("refused");
        assert!(matches!(error, TrainError::Option { .. }), "{error}");
    }
}

/// A pool that is renewed every two steps: a run that was stopped in the middle of a round continues
/// with the images of that round, and other images give other losses.
#[test]
fn a_run_with_renewed_pools_resumes() {
    let device = device();
    let (start, task) = tiny_denoiser(&device, None);
    let autoencoder = tiny_autoencoder(&device);
    let autoencoder = Parameters::of(&autoencoder).write_into(autoencoder, false);
    let data = fields(&[([4, 4], None), ([8, 4], Some(7))]);
    let losses = |folder: &std::path::Path, renew_every: usize, until: usize| {
        let mut run = Run::open(folder, start.clone(), options(6)).expect("run");
        let (mut losses, mut captions_of_rounds) = (Vec::new(), Vec::new());
        while run.step() < 6 {
            let round = run.step() / renew_every;
            let images = PoolOptions {
                count: 4,
                seed: 0,
                round,
            };
            let pool = LatentPool::encode(&autoencoder, &data, images, &device, |_| ());
            let pool = pool.expect("pool");
            captions_of_rounds.push(captions(&pool).join(", "));
            let task = TransformerTask {
                pool,
                tokenizer: task.tokenizer.clone(),
                options: task.options,
                device: device.clone(),
            };
            let last = (round + 1) * renew_every;
            let continued = run.train_until(&task, last, |_, progress| {
                losses.push(progress.loss);
                progress.step < until
            });
            if !continued.expect("trains") {
                break;
            }
        }
        (losses, captions_of_rounds)
    };
    let folder = || tempfile::tempdir().expect("folder");
    let (whole, stopped, never) = (folder(), folder(), folder());
    let (expected, rounds) = losses(whole.path(), 2, 6);
    assert_eq!(
        rounds,
        [
            "0 0, 0 1, 1 0, 1 1",
            "0 2, 0 3, 1 2, 1 3",
            "0 4, 0 5, 1 4, 1 5"
        ]
    );
    let (mut found, _) = losses(stopped.path(), 2, 3);
    let (rest, rounds) = losses(stopped.path(), 2, 6);
    assert_eq!(rounds, ["0 2, 0 3, 1 2, 1 3", "0 4, 0 5, 1 4, 1 5"]);
    found.extend(rest);
    assert_eq!(found, expected);
    let (once, rounds) = losses(never.path(), 100, 6);
    assert_eq!(rounds.len(), 1);
    assert_eq!(once[..2], expected[..2]);
    assert_ne!(once[2..], expected[2..]);
}
