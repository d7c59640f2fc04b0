//! Generation that does not block the thread, as a browser demands.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use sana_pipeline::StepInfo;
use sana_pipeline::error::ObserverError;

use super::*;

/// Lets others run once, as a page's own work does between steps.
async fn others_run() {
    let mut ran = false;
    poll_fn(|context| {
        if ran {
            return Poll::Ready(());
        }
        ran = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The result of a future, and how often it waited. A future that blocks the thread would not wait.
fn run<T>(future: impl Future<Output = T>) -> (T, usize) {
    let (mut future, mut waits) = (pin!(future), 0);
    loop {
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(result) => return (result, waits),
            Poll::Pending => waits += 1,
        }
    }
}

fn is_same(pipeline: &mut SanaPipeline, request: &Request) {
    let mut expected = Vec::new();
    let blocking = pipeline
        .generate(
            request,
            &mut |mut step: StepInfo<'_>| -> Result<StepAction, ObserverError> {
                expected.extend(step.decode_preview()?.unwrap_or_default());
                Ok(StepAction::Continue)
            },
        )
        .unwrap();
    let settings = request.validate(pipeline.spec()).unwrap();
    let plan = pipeline.plan(settings).unwrap();
    let (mut previews, mut delivered) = (Vec::new(), 0);
    let observe = &mut async |mut step: StepInfo<'_>| -> Result<StepAction, ObserverError> {
        others_run().await;
        previews.extend(step.decode_preview_async().await?.unwrap_or_default());
        Ok(StepAction::Continue)
    };
    let deliver = &mut |_: usize, _: &RgbImage| -> Result<(), ObserverError> {
        delivered += 1;
        Ok(())
    };
    let (made, waits) = run(pipeline.generate_async(&plan, observe, deliver));
    assert_eq!(made.unwrap().images, blocking.images);
    assert_eq!(
        (waits, delivered),
        (plan.settings().steps(), blocking.images.len())
    );
    assert_eq!(previews, expected);
}

#[test]
fn the_images_are_the_same() {
    let request = small().count(2).seed(5);
    is_same(&mut sana(), &request);
    is_same(&mut sana(), &request.clone().solver(Solver::FlowEuler));
    is_same(&mut sprint(), &request.steps(2));
    let image = RgbImage::from_fn(64, 32, |x, y| image::Rgb([4 * x as u8, 8 * y as u8, 99]));
    let mask = GrayImage::from_fn(64, 32, |x, _| image::Luma([if x < 32 { 255 } else { 0 }]));
    let request = small().image(image).mask(mask);
    is_same(&mut sana(), &request);
}

/// It ends where a step waits if nobody asks for it any more.
#[test]
fn it_ends_where_it_waits() {
    let mut pipeline = sana();
    let settings = small().validate(pipeline.spec()).unwrap();
    let plan = pipeline.plan(settings).unwrap();
    let steps = Cell::new(0);
    let observe = &mut async |_: StepInfo<'_>| {
        steps.set(steps.get() + 1);
        others_run().await;
        StepAction::Continue
    };
    let deliver = &mut |_: usize, _: &RgbImage| -> Result<(), ObserverError> { Ok(()) };
    {
        let mut future = pin!(pipeline.generate_async(&plan, observe, deliver));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(steps.get(), 1);
    pipeline.generate(&small(), &mut keep_running).unwrap();
}
